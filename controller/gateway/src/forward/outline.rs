//! What a JSON text says at its outermost level, read as it passes and kept short: of a message that is longer than anybody
//! remembers, what it is asked by. It must not know what the members mean.

/// More than the method, the id and the names of all members take.
const MAX_BYTES: usize = 4096;

/// The text with `null` for whatever is within something. What is no JSON becomes no JSON, or nothing that it said.
#[derive(Debug, Default)]
pub struct Outline {
    text: Vec<u8>,
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    is_too_long: bool,
}

impl Outline {
    /// Reads on.
    pub fn push(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            let before = self.depth;
            self.step(byte);
            if before.max(self.depth) <= 1 {
                self.keep(&[byte]);
            } else if before == 1 {
                self.keep(b"null");
            }
        }
    }

    /// What was read; none of what is too long at that level.
    pub fn text(&self) -> Option<&[u8]> {
        (!self.is_too_long).then_some(&self.text)
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.text.len() + bytes.len() > MAX_BYTES {
            self.is_too_long = true;
        } else {
            self.text.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn outline(chunks: &[&[u8]]) -> Option<Vec<u8>> {
        let mut outline = Outline::default();
        for chunk in chunks {
            outline.push(chunk);
        }
        outline.text().map(<[u8]>::to_vec)
    }

    #[test]
    fn what_is_within_something_is_left_out() {
        let text = br#"{"a":{"b":["}\"]",{}]},"id":"\"{","c":[[1],"]"],"n":-1.5e3}"#;
        let expected = br#"{"a":null,"id":"\"{","c":null,"n":-1.5e3}"#;
        assert_eq!(outline(&[text]).unwrap(), expected);
        assert_eq!(outline(&[b"[{\"id\":1},2]"]).unwrap(), b"[null,2]");
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES));
        assert_eq!(outline(&[long.as_bytes()]), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\\{\}\[\]\n]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let members = prop::collection::btree_map("[a-z\"{]{0,3}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_says_what_the_text_says_however_that_is_cut(value in any_json(), cut in any::<prop::sample::Index>()) {
            let text = value.to_string();
            let (start, rest) = text.as_bytes().split_at(cut.index(text.len()));
            let read: Value = serde_json::from_slice(&outline(&[start, rest]).unwrap()).unwrap();
            let shallow = |value: &Value| match value {
                Value::Object(_) | Value::Array(_) => Value::Null,
                other => other.clone(),
            };
            let expected = match &value {
                Value::Object(members) => {
                    members.iter().map(|(name, value)| (name.clone(), shallow(value))).collect()
                }
                Value::Array(items) => items.iter().map(shallow).collect(),
                other => json!(other),
            };
            prop_assert_eq!(read, expected);
        }
    }
}
