//! Reads as much of GraphQL as the double needs: the operation's tree of fields. Arguments are
//! skipped (every client that matters sends variables) and fragments are not followed (answers are
//! whole objects, whatever the selection), so this must not be mistaken for an executor.

/// A field and the fields that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The key in the answer: its alias, else its name.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Nested fields; empty for a leaf or where only fragments are selected.
    pub fields: Vec<Field>,
}

/// The text is no GraphQL that this reader understands.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the query near {near:?}")]
pub struct SyntaxError {
    near: String,
}

/// Deeper nesting is refused; the deepest known operation has four levels before its fragments.
const MAX_DEPTH: usize = 16;

/// The root fields of the first operation in `query`.
pub fn parse(query: &str) -> Result<Vec<Field>, SyntaxError> {
    let tokens = tokens(query);
    let mut reader = Reader { tokens: &tokens };
    // `{`, `query {`, `mutation Name($x: T!) {`
    while !matches!(reader.peek(), Some("{") | None) {
        reader.skip_one_or_parenthesised()?;
    }
    reader.selection(0)
}

/// The paths of all leaves below the root, such as `admin.user.list`; for the record of requests.
pub fn paths(fields: &[Field]) -> Vec<String> {
    fields
        .iter()
        .map(|field| {
            let mut path = field.name.clone();
            let mut inner = &field.fields;
            // Namespaces (`admin`, `user`, `mutate`) hold exactly one field that matters.
            while let [only] = inner.as_slice()
                && ["admin", "user", "mutate", "apiKeys"]
                    .contains(&path.rsplit('.').next().unwrap_or_default())
            {
                path = format!("{path}.{}", only.name);
                inner = &only.fields;
            }
            path
        })
        .collect()
}

struct Reader<'a> {
    tokens: &'a [String],
}

impl Reader<'_> {
    fn peek(&self) -> Option<&str> {
        self.tokens.first().map(String::as_str)
    }

    fn next(&mut self) -> Result<String, SyntaxError> {
        let (first, rest) = self.tokens.split_first().ok_or_else(|| self.error())?;
        self.tokens = rest;
        Ok(first.clone())
    }

    fn error(&self) -> SyntaxError {
        let near = self.tokens.iter().take(4).cloned().collect::<Vec<_>>().join(" ");
        SyntaxError { near }
    }

    fn skip_one_or_parenthesised(&mut self) -> Result<(), SyntaxError> {
        let mut depth = 0_usize;
        loop {
            match self.next()?.as_str() {
                "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.checked_sub(1).ok_or_else(|| self.error())?,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn selection(&mut self, depth: usize) -> Result<Vec<Field>, SyntaxError> {
        if depth > MAX_DEPTH || self.next()? != "{" {
            return Err(self.error());
        }
        let mut fields = Vec::new();
        loop {
            match self.peek() {
                Some("}") => {
                    self.next()?;
                    return Ok(fields);
                }
                Some("...") => self.fragment(depth)?,
                _ => fields.push(self.field(depth)?),
            }
        }
    }

    /// `...Name`, `... on Type { }` or `... { }`: read and dropped.
    fn fragment(&mut self, depth: usize) -> Result<(), SyntaxError> {
        self.next()?;
        if self.peek() == Some("on") {
            self.next()?;
            self.next()?;
        } else if self.peek() != Some("{") {
            self.next()?;
        }
        if self.peek() == Some("{") {
            self.selection(depth + 1)?;
        }
        Ok(())
    }

    fn field(&mut self, depth: usize) -> Result<Field, SyntaxError> {
        let key = self.name()?;
        let name = if self.peek() == Some(":") {
            self.next()?;
            self.name()?
        } else {
            key.clone()
        };
        if self.peek() == Some("(") {
            self.skip_one_or_parenthesised()?;
        }
        let fields = match self.peek() {
            Some("{") => self.selection(depth + 1)?,
            _ => Vec::new(),
        };
        Ok(Field { key, name, fields })
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        let is_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if self.peek().is_some_and(is_name) { self.next() } else { Err(self.error()) }
    }
}

fn tokens(query: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' => string_length(rest),
            '.' if rest.starts_with("...") => 3,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() && first != ',' && first != '#' {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '-')
}

/// The length of a quoted string with both quotes; to the end where it is not closed.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (position, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return position + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Vec<String> {
        paths(&parse(query).unwrap())
    }

    #[test]
    fn the_forms_that_clients_send_are_read() {
        assert_eq!(read("{ bucketConfigs { name } }"), ["bucketConfigs"]);
        assert_eq!(read("query { me { name email isAdmin } }"), ["me"]);
        assert_eq!(
            read(
                "query usersGet($name: String!) { admin { user { get(name: $name) { ...U } } } } \
                 fragment U on User { name }"
            ),
            ["admin.user.get"]
        );
        assert_eq!(
            read(
                "mutation S($n: String!, $r: [String!]!) { admin { user { mutate(name: $n) { \
                 addRoles(roles: $r) { __typename ...U } } } } }"
            ),
            ["admin.user.mutate.addRoles"]
        );
        assert_eq!(read("{ a: me { name } bucketConfigs { name } }"), ["me", "bucketConfigs"]);
    }

    #[test]
    fn an_alias_is_the_key_of_the_answer() {
        let fields = parse("{ who: me { name } }").unwrap();
        assert_eq!((fields[0].key.as_str(), fields[0].name.as_str()), ("who", "me"));
    }

    #[test]
    fn braces_in_strings_and_comments_are_no_braces() {
        assert_eq!(read("{ # }\n bucketConfig(name: \"}\\\"{\") { name } }"), ["bucketConfig"]);
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for broken in ["", "query", "{", "{ me { name }", "{ 5 }", "}{"] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
