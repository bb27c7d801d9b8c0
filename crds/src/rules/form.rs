//! Forms of texts: host names, origins, paths, durations, quantities.
//!
//! Each is a rule about `self`, or an expression about another text. The expressions are RE2,
//! which has no look-ahead, so what must not be there is matched separately. This module must not
//! know which field has which form.

use super::rule;
use kube::core::Rule;
use std::time::Duration;

const LABEL: &str = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
const PORT: &str =
    "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// Looser than an address: that it is one, and in canonical form, is said by `crate::validate`.
const V6: &str = r"[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}((\.[0-9]{1,3}){3})?";
/// Printable ASCII without `/` and what means something else in a path: `#`, `%`, `?`, `\`.
const SEGMENT: &str = r#"[!"$&-.0->@-\[\]-~]"#;
/// A segment that leads elsewhere.
const DOTS: &str = r"(^|/)\.\.?(/|$)";

fn dns() -> String {
    format!(r"{LABEL}(\.{LABEL})*")
}

fn v4() -> String {
    format!(r"{OCTET}(\.{OCTET}){{3}}")
}

/// `text` is matched by `pattern`.
fn matches(text: &str, pattern: &str) -> String {
    format!("{text}.matches(r'{pattern}')")
}

/// `text` is matched by `pattern` from its beginning to its end.
pub(crate) fn is(text: &str, pattern: &str) -> String {
    matches(text, &format!("^({pattern})$"))
}

/// More than spaces.
pub(crate) fn filled(fix: &str) -> [Rule; 1] {
    [rule("self.trim() != ''", &format!("is empty; {fix}"))]
}

/// A DNS label: the name of a class.
pub(crate) fn label() -> [Rule; 1] {
    let message = "is not a class name; use 1 to 63 lower-case letters, digits and `-`, starting \
                   and ending with a letter or digit";
    [rule(is("self", LABEL), message)]
}

/// The name of a Secret.
pub(crate) fn object_name() -> [Rule; 1] {
    let message = "is not the name of a Secret; write lower-case letters, digits, `-` and `.`";
    let label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    [rule(is("self", &format!(r"{label}(\.{label})*")), message)]
}

/// The key of an entry of a Secret. It is a file's name too, so it leads nowhere else.
pub(crate) fn entry_key() -> [Rule; 1] {
    let message = "is not the key of an entry of a Secret; write letters, digits, `-`, `_` and \
                   `.`, not only dots";
    let form = is("self", "[-._a-zA-Z0-9]+");
    [rule(format!("{form} && !{}", is("self", r"\.+")), message)]
}

/// An issuer below which its discovery document is: an https URL without query and fragment. Its
/// spelling is the issuer's own, since tokens say it byte for byte.
pub(crate) fn is_discoverable(text: &str) -> String {
    is(text, r#"https://[!"$-.0->A-~]+(/[!"$->@-~]*)?"#)
}

fn is_dns_name(text: &str) -> String {
    let numeric = r"(^|\.)(0x[^.]*|[0-9]+)$";
    format!("{} && !{}", is(text, &dns()), matches(text, numeric))
}

/// A DNS name in lower case.
pub(crate) fn dns_name() -> [Rule; 1] {
    let message = "is not a host name; write a lower-case DNS name without scheme, port or final \
                   dot, such as `mcp.example.com`";
    [rule(is_dns_name("self"), message)]
}

/// A DNS name or an address.
pub(crate) fn host() -> [Rule; 1] {
    let address = is("self", &format!("{}|{V6}", v4()));
    let message = "is not a host; write a lower-case DNS name, or an IP address without brackets, \
                   without wildcard, scheme and port";
    [rule(format!("{address} || {}", is_dns_name("self")), message)]
}

/// An address range.
pub(crate) fn cidr() -> [Rule; 1] {
    let v4 = format!("{}/(3[0-2]|[12]?[0-9])", v4());
    let v6 = format!("{V6}/(12[0-8]|1[01][0-9]|[1-9]?[0-9])");
    let message = "is not an address range; write an IP address, `/` and a prefix length, such as \
                   `10.0.0.0/8`";
    [rule(is("self", &format!("{v4}|{v6}")), message)]
}

/// An https URL whose path is `path`, in its one spelling: the default port is not written, and a
/// host of digits is an address.
fn https(path: &str, message: &str) -> [Rule; 1] {
    [rule(origin_expression(path), message)]
}

fn origin_expression(path: &str) -> String {
    let default_port = matches("self", r"^https://[^/]*:443(/|$)");
    url_expression(path, &format!(" && !{default_port}"))
}

/// The same with another condition of its port, or none.
fn url_expression(path: &str, port: &str) -> String {
    let url = is("self", &format!(r"https://({}|\[{V6}\])(:{PORT})?{path}", dns()));
    let numeric = matches("self", r"^https://([^/:]*\.)?(0x[^./:]*|[0-9]+)(:[0-9]+)?(/|$)");
    let address = matches("self", &format!("^https://{}([:/]|$)", v4()));
    format!("{url}{port} && (!{numeric} || {address})")
}

const URL_PATH: &str = r"/[!$-;=@-\[\]-~]*";

/// An origin.
pub(crate) fn origin() -> [Rule; 1] {
    let message = "is not an https origin; write `https://`, a lower-case host and, where it is \
                   not 443, a port: no path, no final slash";
    https("", message)
}

/// An https origin, or an http one on a loopback address.
pub(crate) fn origin_or_loopback() -> [Rule; 1] {
    let https = origin_expression("");
    let loopback = is("self", &format!(r"http://127(\.{OCTET}){{3}}(:{PORT})?"));
    let default_port = matches("self", ":443$");
    let message = "is not an origin of STS; write an https origin, or http on a loopback address, \
                   such as `http://127.0.0.1:5000`";
    [rule(format!("({https}) || ({loopback} && !{default_port})"), message)]
}

/// An https URL.
pub(crate) fn https_url() -> [Rule; 1] {
    let message = "is not an https URL; write an https URL with a path, without query, fragment \
                   and the default port";
    https(URL_PATH, message)
}

/// An authorization server as it names itself: an https URL whose path may be missing, and whose default port may be
/// written, since clients compare it.
pub(crate) fn authorization_server() -> [Rule; 1] {
    let message = "is not an https URL; write an https URL without query and fragment, as the \
                   server's own metadata names its `issuer`";
    [rule(url_expression(&format!("({URL_PATH})?"), ""), message)]
}

/// The path of a route.
pub(crate) fn route_path() -> Vec<Rule> {
    let path = is("self", &format!("(/{SEGMENT}+)+"));
    vec![
        rule(
            format!("{path} && !{}", matches("self", DOTS)),
            "is not a path of whole segments; write a path such as `/mcp`: it begins with `/`, \
             does not end in `/`, and has no empty, `.` or `..` segment and none of `?`, `#`, `%`, \
             `\\`",
        ),
        rule(
            format!("!{}", matches("self", r"^/\.well-known(/|$)")),
            "is where the gateway's own metadata is served; write a path such as `/mcp`",
        ),
    ]
}

/// A path on an MCP server.
pub(crate) fn server_path() -> [Rule; 1] {
    let path = is("self", &format!("/({SEGMENT}|/)*"));
    let message = "is not a path; write a path such as `/mcp`: it begins with `/` and has no `.` \
                   or `..` segment and none of `?`, `#`, `%`, `\\`";
    [rule(format!("{path} && !{}", matches("self", DOTS)), message)]
}

/// An absolute path in one spelling.
pub(crate) fn is_file_path(text: &str) -> String {
    format!("{text}.startsWith('/') && !{}", matches(text, DOTS))
}

/// A digest in `text`.
pub(crate) fn is_digest(text: &str) -> String {
    is(text, "sha256:[0-9a-f]{64}")
}

/// The public part of an API key in `text`.
pub(crate) fn is_key_id(text: &str) -> String {
    is(text, "[a-z0-9]{1,32}")
}

/// A duration from 1 s to `most`, which is named as it is written.
pub(crate) fn duration(most: (&str, Duration)) -> [Rule; 1] {
    duration_from(("1s", Duration::from_secs(1)), most)
}

/// A duration from `least` to `most`, which are named as they are written.
pub(crate) fn duration_from(least: (&str, Duration), most: (&str, Duration)) -> [Rule; 1] {
    let form = "([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?";
    // nothing is found of a unit that is not written, and `0` is read
    let seconds = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)].map(|(unit, seconds)| {
        format!("int('0' + self.find('[0-9]+{unit}').replace('{unit}', '')) * {seconds}")
    });
    let seconds = seconds.join(" + ");
    let message = format!(
        "is not a duration from {} to {}; write numbers with the units d, h, m, s, such as `30s`, \
         `15m` or `1h30m`",
        least.0, most.0
    );
    let (least, most) = (least.1.as_secs(), most.1.as_secs());
    let form = is("self", form);
    [rule(format!("{form} && {seconds} >= {least} && {seconds} <= {most}"), &message)]
}

/// An amount of memory from `least` to `most`.
pub(crate) fn quantity(least: &str, most: &str) -> [Rule; 1] {
    let form = is("self", r"[0-9]{1,18}(\.[0-9]{1,18})?([KMGTPE]i|[kMGTPE])?");
    let message = format!(
        "is not an amount of memory from {least} to {most}; write a number and a unit, such as \
         `512Mi` or `2Gi`"
    );
    let compared = format!(
        "quantity(self).compareTo(quantity('{least}')) >= 0 && \
         quantity(self).compareTo(quantity('{most}')) <= 0"
    );
    [rule(format!("{form} && {compared}"), &message)]
}
