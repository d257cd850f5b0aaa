//! Rust source as text, for tests that read the project's own.

/// `text` with blanks for comments and for what is between quotes, line by line.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let raw = rest.starts_with("r\"") || rest.starts_with("r#\"");
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").expect("a comment ends") + 2
        } else if raw {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let open = end.len() + 1;
            open + rest[open..].find(end).expect("a text ends") + end.len()
        } else if c == '"' {
            1 + end_of_quote(after, '"')
        } else if c == '\'' && (after.starts_with('\\') || after.chars().nth(1) == Some('\'')) {
            1 + end_of_quote(after, '\'')
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
            rest = after;
        } else {
            code.push(' ');
            code.extend(rest[..skipped].matches('\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// The first byte after the closing quote.
fn end_of_quote(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    panic!("a quote ends");
}

/// `code` without the items that only tests have, line by line.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        let item = &rest[at + MARK.len()..];
        let mut depth = 0;
        let end = item.char_indices().find(|(_, c)| match c {
            '{' => {
                depth += 1;
                false
            }
            '}' => {
                depth -= 1;
                depth == 0
            }
            c => *c == ';' && depth == 0,
        });
        let (item, after) = item.split_at(end.expect("an item ends").0 + 1);
        kept.extend(item.matches('\n'));
        rest = after;
    }
    kept + rest
}
