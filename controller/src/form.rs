//! Forms of HTTP (WHATWG URL, `application/x-www-form-urlencoded`) that hold secrets: no copy of one is left in memory.

use zeroize::Zeroizing;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// A form of these names, which are plain, and values.
pub(crate) fn encode<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Zeroizing<String> {
    let fields: Vec<_> = fields.into_iter().collect();
    // what grows is copied, and the copies are not wiped: as long as it can become, at once
    let most = fields.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut form = Zeroizing::new(String::with_capacity(most));
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        push_value(&mut form, value);
    }
    form
}

/// One value (also what RFC 6749, 2.3.1, wants of a client's id and secret).
pub(crate) fn value(text: &str) -> Zeroizing<String> {
    let mut form = Zeroizing::new(String::with_capacity(3 * text.len()));
    push_value(&mut form, text);
    form
}

fn push_value(form: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            form.push(char::from(byte));
        } else {
            form.push('%');
            for digit in [byte >> 4, byte & 15] {
                form.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_exactly_what_was_put_into_it() {
        let form = encode([("a", "x y&z=1"), ("scope", "é+%")]);
        assert_eq!(*form, "a=x%20y%26z%3D1&scope=%C3%A9%2B%25");
        assert_eq!(*value("p:w aZ0-._*"), "p%3Aw%20aZ0-._*");
        assert!(encode([]).is_empty());
    }
}
