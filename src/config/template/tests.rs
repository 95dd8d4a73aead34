//! Tables of templates: what they give, what is refused when they are read, what fails when they are used.

use super::*;
use proptest::prelude::*;

fn facts() -> Facts {
    let pairs = [("0", "ip-10-1.example."), ("1", "10"), ("2", "1"), ("a", "10"), ("b", "1")];
    Facts {
        zone: "example.".into(),
        name: "ip-10-1.example.".into(),
        class: "IN".into(),
        rtype: "A".into(),
        matches: ["ip-10-1.example.", "10", "1"].map(String::from).into(),
        groups: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        remote: "192.0.2.1".into(),
        qtype: 1,
        qclass: 1,
    }
}

fn read(text: &str) -> Result<Template, Malformed> {
    Template::read(text, &["a".into(), "b".into()])
}

fn rendered(text: &str) -> Result<String, Failed> {
    read(text).unwrap_or_else(|e| panic!("{text}: {e}")).render(&facts())
}

#[test]
fn templates_give_what_go_gives() {
    for (template, want) in [
        ("", ""),
        ("a } b", "a } b"),
        ("{{ .Name }} 60 IN A 10.{{ .Group.a }}", "ip-10-1.example. 60 IN A 10.10"),
        ("{{.Zone}}{{.Class}}{{.Type}}{{.Remote}}", "example.INA192.0.2.1"),
        ("{{ .Question.Name }} {{ .Question.Qtype }} {{ .Question.Qclass }}", "ip-10-1.example. 1 1"),
        ("{{ (index .Message.Question 0).Qtype }}", "1"),
        ("{{ .Match }} {{ .Group }}", "[ip-10-1.example. 10 1] map[0:ip-10-1.example. 1:10 2:1 a:10 b:1]"),
        // Trimming and comments.
        ("a  {{- \"b\" -}}  c", "abc"),
        ("a {{- /* no */ -}} c", "ac"),
        ("a {{/* no */}} c", "a  c"),
        ("{{-3}}", "-3"),
        ("{{ \"x\" }}{{ `y\"` }}{{ 'a' }}{{ \"\\\"\\\\\\n\" }}", "xy\"97\"\\\n"),
        // Pipelines and functions.
        ("{{ index .Match 1 }}-{{ index .Group \"b\" }}-{{ index .Group \"c\" }}.", "10-1-."),
        ("{{ parseInt .Group.a 16 8 }} {{ parseInt \"0xff\" 0 8 }}", "16 255"),
        ("{{ .Group.a | printf \"%s-%s\" \"x\" }}", "x-10"),
        (
            "{{ printf \"%03d|%-3d|%3s|%x|%X|%v|%q|%%|%t\" 7 7 \"a\" 255 \"az\" true \"q\" false }}",
            "007|7  |  a|ff|617A|true|\"q\"|%|false",
        ),
        ("{{ parseInt .Group.a 10 0 | printf \"%02x\" }}", "0a"),
        ("{{ print 1 2 \"a\" true }}{{ len .Match }}{{ len \"abc\" }}{{ len .Group }}", "1 2atrue335"),
        (
            "{{ eq .Type \"AAAA\" \"A\" }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt \"a\" \"b\" }} {{ ge 1 2 }}",
            "true true true true false false",
        ),
        ("{{ and 1 0 \"x\" }} {{ or 0 \"\" \"y\" }} {{ not 0 }} {{ and 1 \"z\" }}", "0 y true z"),
        // What is decided is not looked at.
        ("{{ or 1 (index .Match 99) }}{{ and 0 (index .Match 99) }}", "10"),
        ("{{ .Meta \"kubernetes/client-namespace\" }}|{{ \"a\" | .Meta }}", "|"),
        // Variables.
        ("{{ $x := .Group.a }}{{ $x }}{{ $x = \"n\" }}{{ $x }}{{ $.Zone }}", "10nexample."),
        ("{{ $q := .Question }}{{ $q.Qtype }}", "1"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x }}{{ end }}{{ $x }}", "32"),
        // Blocks.
        ("{{ if eq .Type \"A\" }}a{{ else }}b{{ end }}", "a"),
        ("{{ if eq .Type \"X\" }}a{{ else if .Match }}b{{ else }}c{{ end }}", "b"),
        ("{{ if $x := .Group.b }}{{ $x }}{{ else }}{{ $x }}-{{ end }}", "1"),
        ("{{ range .Match }}<{{ . }}>{{ end }}", "<ip-10-1.example.><10><1>"),
        ("{{ range $i, $m := .Match }}{{ $i }}={{ $m }},{{ end }}", "0=ip-10-1.example.,1=10,2=1,"),
        ("{{ range $m := .Match }}{{ if eq $m \"1\" }}{{ $.Type }}{{ end }}{{ end }}", "A"),
        ("{{ range nil }}x{{ else }}none{{ end }}", "none"),
        ("{{ with .Group }}{{ .a }}{{ end }}{{ with \"\" }}x{{ else }}{{ .Type }}{{ end }}", "10A"),
        ("{{ with .Group }}{{ .none }}{{ end }}", "<no value>"),
    ] {
        assert_eq!(rendered(template).as_deref(), Ok(want), "{template}");
    }
}

#[test]
fn what_could_never_work_is_refused_when_it_is_read() {
    for (template, at, why) in [
        ("{{ .Nam }}", 4, "there is no \".Nam\"; did you mean \"Name\"?"),
        ("x{{ .Group.c }}", 11, "there is no \".Group.c\"; did you mean \"a\"?"),
        ("{{ .Group.first }}", 10, "there is no \".Group.first\"; choose from: a, b"),
        ("{{ .Question.Qtyp }}", 13, "there is no \".Question.Qtyp\"; did you mean \"Qtype\"?"),
        ("{{ .Message.Id }}", 12, "there is no \".Message.Id\"; choose from: Question"),
        ("{{ .Type.Name }}", 9, "there is no \".Type.Name\"; it has no fields"),
        ("{{ $.Nam }}", 5, "there is no \".Nam\"; did you mean \"Name\"?"),
        ("{{ prinft \"a\" }}", 4, "the function \"prinft\" is not supported; did you mean \"print\"?"),
        ("{{ html .Name }}", 4, "the function \"html\" is not supported"),
        ("{{ define \"x\" }}{{ end }}", 4, "\"define\" is not supported; there are if, range and with"),
        ("{{ range .Match }}{{ break }}{{ end }}", 22, "\"break\" is not supported; there are if, range and with"),
        ("{{ parseInt .Name 16 }}", 19, "\"parseInt\" takes 3 arguments, not 2"),
        ("{{ index }}", 4, "\"index\" takes at least 1 arguments, not 0"),
        ("{{ .Name 1 }}", 10, "what is no function takes no arguments"),
        ("{{ .Meta }}", 4, "\".Meta\" takes one argument"),
        ("{{ $x }}", 4, "the variable $x does not exist"),
        ("{{ $x = 1 }}", 7, "the variable $x does not exist"),
        ("{{ if true }}{{ $y := 1 }}{{ end }}{{ $y }}", 39, "the variable $y does not exist"),
        ("{{ $x, $y := .Match }}", 8, "too many variables"),
        ("{{ if .Name }}", 4, "\"if\" without \"end\""),
        ("{{ if .Name }}{{ else }}", 4, "\"if\" without \"end\""),
        ("{{ if .Name }}{{ else }}{{ else }}{{ end }}", 28, "a second \"else\""),
        ("{{ range .Match }}{{ else if true }}{{ end }}", 27, "\"if\" cannot follow \"else\" here"),
        ("{{ end }}", 4, "\"end\" without \"if\", \"range\" or \"with\""),
        ("{{ if }}a{{ end }}", 4, "a command is missing"),
        ("{{ }}", 1, "nothing between \"{{\" and \"}}\""),
        ("{{ .Name", 3, "\"{{\" without \"}}\""),
        ("{{ .Name | }}", 10, "a command is missing"),
        ("{{ (.Name }}", 5, "a \"(\" is not closed"),
        ("{{ .Name) }}", 9, "\")\" is too much here"),
        ("{{ \"a }}", 4, "a quote is not closed"),
        ("{{ 'ab' }}", 4, "single quotes hold one character; write text in double quotes"),
        ("{{ 1.5 }}", 4, "\"1.5\" is not a whole number"),
        ("{{ .Name & 1 }}", 10, "'&' has no meaning here"),
        ("é{{ & }}", 5, "'&' has no meaning here"),
        ("{{ print index }}", 10, "write \"index\" and its arguments in parentheses"),
        ("{{/* a }}", 3, "a comment must be closed and stand alone"),
        ("{{ 1 /* a */ }}", 6, "a comment must be closed and stand alone"),
    ] {
        let malformed = read(template).err().unwrap_or_else(|| panic!("{template}: accepted"));
        assert_eq!((malformed.at, malformed.message.as_str()), (at, why), "{template}");
    }
    for deep in ["{{ if 1 }}".repeat(40), format!("{{{{ {} }}}}", "(".repeat(40))] {
        assert!(read(&deep).unwrap_err().message.contains("nested deeper"), "{deep}");
    }
    assert!(read(&"x".repeat(MAX_TEXT + 1)).unwrap_err().message.contains("longer than"));
}

#[test]
fn what_does_not_suit_the_question_fails() {
    for (template, why) in [
        ("{{ parseInt .Name 10 8 }}", "parseInt of \"ip-10-1.example.\": not a number"),
        ("{{ parseInt \"256\" 10 8 }}", "parseInt of \"256\": too large"),
        ("{{ parseInt \"1\" 1 8 }}", "parseInt of \"1\": the base must be 0 or from 2 to 36"),
        ("{{ parseInt \"1\" 10 65 }}", "parseInt of \"1\": the size must be from 0 to 64 bits"),
        ("{{ parseInt 1 10 8 }}", "parseInt takes a text, a base and a size in bits"),
        ("{{ index .Match 3 }}", "there is no item 3 in a list of 3"),
        ("{{ index .Match -1 }}", "there is no item -1 in a list of 3"),
        ("{{ index .Type \"x\" }}", "text is not indexed by text"),
        ("{{ eq .Type 1 }}", "text cannot be compared with a number"),
        ("{{ len 1 }}", "a number has no length"),
        ("{{ .Question }}", "a structure cannot be written out"),
        ("{{ range .Type }}{{ end }}", "text cannot be ranged over"),
        ("{{ printf \"%d\" \"a\" }}", "printf: %d cannot write text"),
        ("{{ printf \"%d\" }}", "printf: fewer arguments than verbs"),
        ("{{ printf \"\" 1 }}", "printf: more arguments than verbs"),
        ("{{ printf \"%999d\" 1 }}", "printf: a width of more than 255"),
        ("{{ printf \"%\" }}", "printf: the format ends in the middle of a verb"),
        ("{{ printf 1 }}", "\"printf\" cannot be called with these arguments"),
    ] {
        assert_eq!(rendered(template), Err(Failed::Unfit(why.into())), "{template}");
    }
}

#[test]
fn steps_and_output_are_bounded() {
    let many = Facts { matches: vec!["x".repeat(100); 200], ..facts() };
    let nested = "{{ range $.Match }}".repeat(3) + "." + &"{{ end }}".repeat(3);
    assert_eq!(read(&nested).unwrap().render(&many), Err(Failed::Steps));
    let long = "{{ range $.Match }}{{ range $.Match }}{{ . }}{{ end }}{{ end }}";
    assert_eq!(read(long).unwrap().render(&many), Err(Failed::Output));
    let grows = "{{ $x := \"xxxxxxxxxxxxxxxx\" }}{{ range .Match }}{{ $x = printf \"%s%s\" $x $x }}{{ end }}";
    assert_eq!(read(grows).unwrap().render(&many), Err(Failed::Output));
}

#[test]
fn a_template_without_actions_is_constant() {
    assert_eq!(read("a. 60 IN A 10.0.0.1").unwrap().constant().as_deref(), Some("a. 60 IN A 10.0.0.1"));
    assert_eq!(read("{{/* why */}}a.").unwrap().constant().as_deref(), Some("a."));
    assert_eq!(read("{{ .Name }}").unwrap().constant(), None);
}

proptest! {
    #[test]
    fn no_template_breaks_it(text in "\\PC{0,60}", action in "[-a-z0-9.$|:=() \"'`{}/*]{0,40}") {
        for text in [text, format!("{{{{ {action} }}}}"), format!("{{{{{action}}}}}{{{{ end }}}}")] {
            if let Ok(template) = read(&text) {
                let _ = template.render(&facts());
            }
        }
    }
}
