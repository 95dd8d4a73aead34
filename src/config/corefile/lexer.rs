//! Text to words. Knows words, quotes and comments, neither braces nor directives.
//!
//! Any text has words, so nothing fails here. What looks odd is CoreDNS's: a quote opens only at the start of a word,
//! only `\"` is an escape, and a `#` inside a word ends the word but not the line.

use std::rc::Rc;

use crate::config::corefile::Comment;
use crate::config::limits;
use crate::config::tree::Place;

/// A word as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Its text without quotes.
    pub(super) text: Rc<str>,
    /// Where it begins, its quote included.
    pub(super) place: Place,
    /// The line it ends in; a quoted word may span several.
    pub(super) end: usize,
}

/// What a text is made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lexed {
    /// The words, in order.
    pub(super) tokens: Vec<Token>,
    /// The comments, in order.
    pub(super) comments: Vec<Comment>,
    /// Where a quote opens that nothing closes.
    pub(super) unclosed: Option<Place>,
}

/// Cuts `text` into words.
pub(super) fn lex(text: &str) -> Lexed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lexer = Lexer { rest: text.chars(), line: 1, column: 1, lexed: Lexed::default() };
    // Nobody reads more words than that.
    while let Some(c) = lexer.peek().filter(|_| lexer.lexed.tokens.len() <= limits::MAX_NODES) {
        match c {
            '#' => lexer.comment(|c| c == '\n'),
            '"' => lexer.quoted(),
            c if c.is_whitespace() => lexer.skip(),
            _ => lexer.plain(),
        }
    }
    lexer.lexed
}

/// A text, read up to some place.
struct Lexer<'t> {
    rest: std::str::Chars<'t>,
    line: usize,
    column: usize,
    lexed: Lexed,
}

impl Lexer<'_> {
    /// The next character.
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    /// Goes past the next character, if there is one.
    fn skip(&mut self) {
        match self.rest.next() {
            Some('\n') => (self.line, self.column) = (self.line + 1, 1),
            Some(_) => self.column += 1,
            None => {}
        }
    }

    /// A comment, from its `#` to the character that `ends` it.
    fn comment(&mut self, ends: fn(char) -> bool) {
        let line = self.line;
        let alone = self.lexed.tokens.last().is_none_or(|token| token.end != line);
        self.skip();
        let start = self.rest.as_str();
        while self.peek().is_some_and(|c| !ends(c)) {
            self.skip();
        }
        let text = &start[..start.len() - self.rest.as_str().len()];
        self.lexed.comments.push(Comment { text: text.trim().to_owned(), line, alone });
    }

    /// A word in quotes; the closing one ends it, whatever follows.
    fn quoted(&mut self) {
        let place = (self.line, self.column);
        self.skip();
        let mut text = String::new();
        let mut escaped = false;
        while let Some(c) = self.peek() {
            self.skip();
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => return self.push(text, place),
                c => {
                    // Every other backslash stays what it is: regular expressions need theirs.
                    if escaped && c != '"' {
                        text.push('\\');
                    }
                    text.push(c);
                    escaped = false;
                }
            }
        }
        self.lexed.unclosed = Some(place);
        if !text.is_empty() {
            self.push(text, place);
        }
    }

    /// A word without quotes.
    fn plain(&mut self) {
        let place = (self.line, self.column);
        let mut text = String::new();
        while let Some(c) = self.peek() {
            match c {
                // Not even a separator, so that a line may end in either way.
                '\r' => {}
                '#' => {
                    self.push(text, place);
                    return self.comment(|c| c.is_whitespace() && c != '\r');
                }
                c if c.is_whitespace() => break,
                c => text.push(c),
            }
            self.skip();
        }
        self.push(text, place);
    }

    fn push(&mut self, text: String, place: Place) {
        self.lexed.tokens.push(Token { text: text.into(), place, end: self.line });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The words of `text`, those of one line joined by `|`, lines by ` / `.
    fn words(text: &str) -> String {
        let mut shown = String::new();
        let mut end = 0;
        for token in lex(text).tokens {
            if end > 0 {
                shown.push_str(if token.place.0 == end { "|" } else { " / " });
            }
            shown.push_str(&token.text);
            end = token.end;
        }
        shown
    }

    #[test]
    fn words_are_separated_by_white_space_of_any_kind() {
        assert_eq!(words("a b\tc\u{a0}d\u{2003}e\u{85}f\nG"), "a|b|c|d|e|f / G");
        assert_eq!(words(""), "");
        assert_eq!(words(" \n\t\n"), "");
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_carriage_returns_mean_nothing() {
        assert_eq!(words("\u{feff}a {\r\n  b\r\n}\r\n"), "a|{ / b / }");
        assert_eq!(words("a\rb c"), "ab|c");
        assert_eq!(words("a\u{feff}b"), "a\u{feff}b");
        assert_eq!(lex("\u{feff}a").tokens[0].place, (1, 1));
        assert_eq!(words("\"a\r\nb\""), "a\r\nb");
    }

    #[test]
    fn a_quote_opens_only_at_the_start_of_a_word() {
        assert_eq!(words(r#""a b" c"#), "a b|c");
        assert_eq!(words(r#"a"b c" d"#), r#"a"b|c"|d"#);
        assert_eq!(words(r#""a"b "c""d""#), "a|b|c|d");
        assert_eq!(words(r#""" x"#), "|x");
        assert_eq!(words(r#"a "" b"#), "a||b");
    }

    #[test]
    fn only_a_quote_is_escaped() {
        assert_eq!(words(r#""say \"hi\"""#), r#"say "hi""#);
        assert_eq!(words(r#""^a\.b\\c\n$""#), r"^a\.b\\c\n$");
        assert_eq!(words(r"a\.b\"), r"a\.b\");
        // Two backslashes and a quote: the second is not escaped by the first, but stays one.
        assert_eq!(words(r#""a\\" b"#), r#"a\\|b"#);
    }

    #[test]
    fn a_quoted_word_may_span_lines() {
        let lexed = lex("a \"b\nc\" d\ne");
        let places: Vec<_> = lexed.tokens.iter().map(|t| (t.place, t.end)).collect();
        assert_eq!(places, [((1, 1), 1), ((1, 3), 2), ((2, 4), 2), ((3, 1), 3)]);
    }

    #[test]
    fn a_quote_that_nothing_closes_takes_the_rest() {
        let lexed = lex("a \"b c\nd");
        assert_eq!(lexed.unclosed, Some((1, 3)));
        assert_eq!(&*lexed.tokens[1].text, "b c\nd");
        let lexed = lex("a \"");
        assert_eq!((lexed.tokens.len(), lexed.unclosed), (1, Some((1, 3))));
        assert_eq!(lex("\"a\"").unclosed, None);
    }

    #[test]
    fn a_hash_begins_a_comment_to_the_end_of_the_line_or_inside_a_word_to_the_next_space() {
        assert_eq!(words("a # b \"c\nd"), "a / d");
        assert_eq!(words("errors#x y\nz"), "errors|y / z");
        assert_eq!(words("a#\"b c\" d"), "a|c\"|d");
        assert_eq!(words("\"a#b\"#c d\ne"), "a#b / e");
        assert_eq!(words("#\n#"), "");
        assert_eq!(words("bind 169.254.25.10   # 本地bind地址\nx"), "bind|169.254.25.10 / x");
    }

    #[test]
    fn comments_are_kept_with_their_line() {
        let comment = |text: &str, line, alone| Comment { text: text.into(), line, alone };
        assert_eq!(
            lex("#  one \r\na # two\n\n  #\nb#c d\n\"x\ny\" # three").comments,
            [
                comment("one", 1, true),
                comment("two", 2, false),
                comment("", 4, true),
                comment("c", 5, false),
                comment("three", 7, false)
            ]
        );
    }

    #[test]
    fn braces_are_words_like_others() {
        assert_eq!(words("health{ {} { } {a"), "health{|{}|{|}|{a");
    }

    #[test]
    fn columns_count_characters() {
        let places: Vec<_> = lex("é \"ü\" x").tokens.iter().map(|t| t.place).collect();
        assert_eq!(places, [(1, 1), (1, 3), (1, 7)]);
    }

    proptest! {
        #[test]
        fn words_stand_where_they_are_said_to(text in "[ab\"\\\\#{} \r\n\té]{0,40}") {
            let lines: Vec<&str> = text.split('\n').collect();
            let mut before = (0, 0);
            for token in lex(&text).tokens {
                prop_assert!(token.place > before && token.end >= token.place.0);
                let c = lines[token.place.0 - 1].chars().nth(token.place.1 - 1).unwrap();
                prop_assert!(c == '"' || token.text.starts_with(c));
                before = token.place;
            }
        }

        #[test]
        fn plain_words_are_read_back(words in proptest::collection::vec("[a-z.:/{}$%]{1,8}", 0..20)) {
            let tokens = lex(&words.join(" ")).tokens;
            prop_assert_eq!(tokens.iter().map(|t| t.text.to_string()).collect::<Vec<_>>(), words);
        }
    }
}
