//! node-cache's variables in a Corefile that it has not filled in, as in the manifests that people keep.
//!
//! node-cache itself never comes here: it fills them in from its flags before. Here they stand for what they stand for in
//! nearly every cluster, and a warning says what that is.

use std::mem;

use crate::config::corefile::lower::words::{Findings, Reading};
use crate::config::corefile::{Corefile, Line, Word};

/// What takes the place of each.
const VARIABLES: [(&str, &str); 6] = [
    ("__PILLAR__CLUSTER__DNS__", "kube-dns"),
    ("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf"),
    ("__PILLAR__LOCAL__DNS__", "169.254.20.10"),
    ("__PILLAR__DNS__SERVER__", ""),
    ("__PILLAR__DNS__DOMAIN__", "cluster.local"),
    ("__PROMETHEUS__ENDPOINT__", ":9253"),
];

/// Fills in every variable in `corefile`.
pub(super) fn fill(corefile: &mut Corefile, findings: &mut Findings) {
    for block in &mut corefile.blocks {
        fill_words(&mut block.keys, findings);
        for directive in &mut block.directives {
            fill_words(&mut directive.arguments, findings);
            for Line(words) in directive.body.iter_mut().flatten() {
                fill_words(words, findings);
            }
            directive.body.iter_mut().for_each(|lines| lines.retain(|line| !line.0.is_empty()));
        }
    }
}

/// Fills them in; a word of which nothing is left goes.
fn fill_words(words: &mut Vec<Word>, findings: &mut Findings) {
    for mut word in mem::take(words) {
        // Quoted words may be so by themselves.
        let was_empty = word.text.is_empty();
        for (variable, value) in VARIABLES {
            if !word.text.contains(variable) {
                continue;
            }
            let said = if value.is_empty() { "is left out".to_owned() } else { format!("is taken for {value}") };
            let message = format!("the variable of node-cache that nothing was put in place of {said}");
            Reading::new(variable, findings).warn_once(variable, &word, message);
            word.text = word.text.replace(variable, value);
        }
        if !word.text.is_empty() || was_empty {
            words.push(word);
        }
    }
}
