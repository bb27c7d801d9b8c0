//! What templates say, and that a value never says more.

use super::*;
use proptest::prelude::*;

fn keys(secret: &str) -> AwsGrant {
    AwsGrant {
        access_key_id: "ASIAX".into(),
        secret_access_key: secret.into(),
        session_token: "tok/en+==".into(),
        expires_at: "2026-01-01T00:15:00.25Z".parse().unwrap(),
        region: "eu-west-1".into(),
        renew_at: None,
    }
}

fn user(subject: &str) -> User {
    User { issuer: "https://issuer.example/".into(), subject: subject.into() }
}

fn rendered(template: &str, aws: &AwsGrant, user: &User) -> Result<String, RenderError> {
    let values = Values { aws: Some(aws), user: Some(user) };
    let text = Template::parse(template).unwrap().render(values, MOST_FILE_BYTES)?;
    Ok(text.expose_secret().to_owned())
}

#[test]
fn every_placeholder_has_its_value_in_either_form() {
    let expected = [
        "ASIAX",
        "se/cret",
        "tok/en+==",
        "2026-01-01T00:15:00Z",
        "eu-west-1",
        "https://issuer.example/",
        "alice.x@example.com",
    ];
    let user = user("alice.x@example.com");
    for (placeholder, value) in Placeholder::ALL.into_iter().zip(expected) {
        for form in ["", JSON] {
            let template = format!("${{{form}{placeholder}}}");
            assert_eq!(rendered(&template, &keys("se/cret"), &user).unwrap(), value, "{template}");
        }
    }
}

#[test]
fn an_ini_file_is_made_as_it_is_written() {
    let template = "[default]\naws_access_key_id = ${aws.accessKeyId}\ncost = 5$$\n";
    assert_eq!(
        rendered(template, &keys("s"), &user("alice")).unwrap(),
        "[default]\naws_access_key_id = ASIAX\ncost = 5$\n"
    );
}

#[test]
fn what_is_no_template_is_refused_with_its_place_and_without_its_text() {
    for (text, expected) in [
        ("$", InvalidTemplate::Dollar(1)),
        ("é$x", InvalidTemplate::Dollar(2)),
        ("a ${aws.region", InvalidTemplate::Dollar(3)),
        ("$$$", InvalidTemplate::Dollar(3)),
        ("${}", InvalidTemplate::Unknown(1)),
        ("${aws.region}${hunter2}", InvalidTemplate::Unknown(14)),
        ("${ aws.region}", InvalidTemplate::Unknown(1)),
        ("${AWS.region}", InvalidTemplate::Unknown(1)),
        ("${yaml:aws.region}", InvalidTemplate::Unknown(1)),
        ("${json:json:aws.region}", InvalidTemplate::Unknown(1)),
        ("${catalog.token}", InvalidTemplate::Unknown(1)),
        ("a\0", InvalidTemplate::Zero),
    ] {
        let error = Template::parse(text).unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
    for text in ["", "$$", "$${aws.nothing}", "{}", "a}b{c"] {
        Template::parse(text).unwrap();
    }
}

#[test]
fn a_value_that_could_end_where_it_stands_is_not_written_as_it_is() {
    for subject in
        ["a\nb", "a\"b", "a'b", "a\\b", "a b", "a|b", "a#b", "a;b", "a`b", "a$b", "a\u{7f}b"]
    {
        let (aws, user) = (keys("s"), user(subject));
        let plain = rendered("user = ${user.subject}", &aws, &user);
        assert_eq!(plain, Err(RenderError::Unsafe(Placeholder::UserSubject)), "{subject:?}");
        assert!(rendered("user = \"${json:user.subject}\"", &aws, &user).is_ok());
    }
}

#[test]
fn what_ends_a_line_of_yaml_or_is_nothing_in_toml_is_escaped_too() {
    let user = user("a\u{7f}b\u{85}c\u{2028}d\u{2029}e\u{feff}f\n\u{1f600}");
    let text = rendered("${json:user.subject}", &keys("s"), &user).unwrap();
    assert_eq!(text, r"a\u007fb\u0085c\u2028d\u2029e\ufefff\n😀");
}

#[test]
fn what_was_not_granted_is_named() {
    let template = Template::parse("${aws.sessionToken}").unwrap();
    assert_eq!(
        template.render(Values::default(), 100).unwrap_err(),
        RenderError::NoValue(Placeholder::AwsSessionToken)
    );
}

#[test]
fn a_text_is_bounded_after_its_values_are_in_it() {
    let template = Template::parse("${user.subject}${user.subject}").unwrap();
    let user = user("12345");
    let values = Values { user: Some(&user), aws: None };
    assert!(template.render(values, 10).is_ok());
    assert_eq!(template.render(values, 9).unwrap_err(), RenderError::TooLong(9));
}

#[test]
fn templates_know_whom_they_name_and_what_they_cannot_renew() {
    let template = |text: &str| Template::parse(text).unwrap();
    let file = |text: &str| FileTemplate { path: "x".into(), template: template(text) };
    let keys_in_file = Templates { files: vec![file("${aws.region}")], ..Templates::default() };
    assert!(!keys_in_file.name_the_user() && !keys_in_file.env_holds_keys());
    let env = BTreeMap::from([
        ("A".to_owned(), template("$${user.subject}")),
        ("B".to_owned(), template("${json:user.issuer}")),
    ]);
    let named = Templates { env, ..Templates::default() };
    assert!(named.name_the_user() && !named.env_holds_keys());
    let env = BTreeMap::from([("A".to_owned(), template("${aws.sessionToken}"))]);
    assert!(Templates { env, ..Templates::default() }.env_holds_keys());
}

#[test]
fn a_template_travels_as_its_text() {
    let template = Template::parse("a $$ ${json:aws.region}").unwrap();
    let text = serde_json::to_string(&template).unwrap();
    assert_eq!(text, r#""a $$ ${json:aws.region}""#);
    assert_eq!(serde_json::from_str::<Template>(&text).unwrap(), template);
    assert!(serde_json::from_str::<Template>(r#""${x}""#).is_err());
}

proptest! {
    #[test]
    fn a_json_template_parses_and_holds_exactly_the_values(secret in ".*", subject in any::<String>()) {
        let template = r#"{"key": "${json:aws.secretAccessKey}", "who": "${json:user.subject}", "n": 1}"#;
        let text = rendered(template, &keys(&secret), &user(&subject)).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read, serde_json::json!({ "key": secret, "who": subject, "n": 1 }));
    }

    #[test]
    fn a_value_as_it_is_stays_one_word_of_one_line(subject in any::<String>()) {
        let Ok(text) = rendered("[a]\nuser = ${user.subject}\nend", &keys("s"), &user(&subject)) else {
            return Ok(());
        };
        prop_assert_eq!(text.lines().count(), 3);
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        prop_assert!(words == ["user", "=", &subject] || subject.is_empty());
        let breaks_out = text.contains(['"', '\'', '\\', '#', ';', '`', '$', '{', '<', '|', '&']);
        prop_assert!(!breaks_out);
    }

    #[test]
    fn any_text_is_a_template_once_its_dollars_are_doubled(text in "[^\0]*") {
        let template = text.replace('$', "$$");
        prop_assert_eq!(rendered(&template, &keys("s"), &user("u")).unwrap(), text);
    }

    #[test]
    fn no_text_makes_the_reader_of_templates_fail(text in any::<String>()) {
        drop(Template::parse(&text));
    }
}
