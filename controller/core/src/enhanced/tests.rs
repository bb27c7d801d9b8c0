//! Against the reference (`vectors.json`: what its JavaScript answered), and for whatever a token may hold.

use super::*;
use data_encoding::BASE64;
use proptest::{collection::vec, prelude::*};
use serde_json::json;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn expand(payload: &Value) -> EnhancedClaims {
    match payload {
        Value::Object(payload) => EnhancedClaims::expand(payload, &Codes::new()),
        other => panic!("no payload of a token: {other}"),
    }
}

fn set(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_payload_of_the_reference_means_what_it_means_there() {
    let vectors = vectors();
    let mut tried = 0;
    for vector in vectors["decode"].as_array().unwrap() {
        let Value::Object(payload) = &vector["payload"] else {
            // the reference takes other things for one; nobody gets so far with those here (gateway, `authn::jwt`)
            continue;
        };
        let (claims, expected) =
            (EnhancedClaims::expand(payload, &Codes::new()), &vector["expected"]);
        let name = &vector["name"];
        assert_eq!(claims.scope, expected["scope"].as_str().unwrap(), "{name}");
        assert_eq!(claims.level.as_str(), expected["level"].as_str().unwrap(), "{name}");
        for (said, list) in [
            (claims.permissions, &expected["permissions"]),
            (claims.roles, &expected["roles"]),
            (claims.buckets, &expected["buckets"]),
        ] {
            assert_eq!(said, set(list), "{name}");
            // a list that says something twice would be compared with less than it is
            assert_eq!(said.len(), list.as_array().unwrap().len(), "{name}");
        }
        tried += 1;
    }
    assert_eq!(tried, 15);
}

#[test]
fn what_the_reference_encodes_is_what_it_decodes() {
    let vectors = vectors();
    for vector in vectors["encode"].as_array().unwrap() {
        let claims = expand(&json!({ "b": vector["encoded"] }));
        assert_eq!(claims.buckets, set(&vector["decoded"]), "{}", vector["name"]);
        // the full list, which its tokens have too, is never lossy
        let both = expand(&json!({ "b": vector["encoded"], "buckets": vector["buckets"] }));
        assert_eq!(both.buckets, set(&vector["buckets"]), "{}", vector["name"]);
    }
}

/// How the reference writes a list of buckets (`EnhancedTokenGenerator`): as it is up to 15, else in the shortest of its
/// forms that is shorter than that.
fn encode(buckets: &[String]) -> Value {
    let plain = json!(buckets);
    let (mut groups, mut patterns) = (Map::new(), Map::new());
    let push = |lists: &mut Map<String, Value>, key: &str, word: &str| {
        lists.entry(key).or_insert_with(|| json!([])).as_array_mut().unwrap().push(json!(word));
    };
    for name in buckets {
        // what has no dash is its own prefix, and comes back with one
        let (prefix, rest) = name.split_once('-').unwrap_or((name, name));
        push(&mut groups, prefix, rest);
        match name.strip_prefix("quilt-") {
            Some(rest) => push(&mut patterns, "quilt", rest),
            None if name.starts_with("cell") => push(&mut patterns, "cell", name),
            None => push(&mut patterns, "other", name),
        }
    }
    let is_few =
        |lists: &Map<String, Value>, tenths: usize| lists.len() * 10 < tenths * buckets.len();
    let packed = BASE64.encode(plain.to_string().as_bytes());
    let forms = [
        is_few(&groups, 6).then(|| ("groups", json!(groups))),
        Some(("compressed", json!(packed))),
        is_few(&patterns, 7).then(|| ("patterns", json!(patterns))),
    ];
    let length = |data: &Value| data.to_string().len();
    let shortest = forms.into_iter().flatten().min_by_key(|(_, data)| length(data)).unwrap();
    if buckets.len() <= 15 || length(&shortest.1) >= length(&plain) {
        return plain;
    }
    json!({ "_type": shortest.0, "_data": shortest.1 })
}

#[test]
fn thirty_two_buckets_of_a_role_come_back_from_the_form_in_which_the_reference_writes_them() {
    // the encoder here writes what the reference does
    let vectors = vectors();
    for vector in vectors["encode"].as_array().unwrap() {
        let buckets: Vec<String> = serde_json::from_value(vector["buckets"].clone()).unwrap();
        assert_eq!(encode(&buckets), vector["encoded"], "{}", vector["name"]);
    }
    let named = |prefix: &str, count: usize| {
        (0..count).map(|n| format!("{prefix}-data-{n}")).collect::<Vec<_>>()
    };
    let mixed = [named("quilt", 14), named("cell", 9), named("fl", 6), named("other", 3)].concat();
    let scattered: Vec<String> = (0..32)
        .map(|n| if n < 24 { format!("quilt-{n}") } else { format!("p{n}-bucket") })
        .collect();
    for (buckets, kind) in [(mixed, "groups"), (scattered, "patterns")] {
        assert_eq!(buckets.len(), 32);
        let encoded = encode(&buckets);
        assert_eq!(encoded["_type"], kind, "{encoded}");
        let claims = expand(&json!({ "p": ["g"], "b": encoded }));
        assert_eq!(claims.buckets, buckets.iter().cloned().collect());
        assert!(buckets.iter().all(|bucket| claims.allows("s3:GetObject", bucket)));
        assert!(!claims.allows("s3:GetObject", "quilt-data") && !claims.reaches("quilt"));
    }
}

#[test]
fn what_could_not_be_read_is_told_and_what_says_nothing_of_it_is_not() {
    let flaws = |payload: Value| {
        let claims = expand(&payload);
        claims.flaws.into_iter().map(Flaw::as_str).collect::<Vec<_>>()
    };
    let good = json!({ "l": "read", "b": { "_type": "groups", "_data": { "quilt": ["demos"] } } });
    assert!(flaws(good).is_empty());
    assert!(flaws(json!({ "level": "admin", "p": ["g"] })).is_empty());
    let none: &[&str] = &[];
    for (payload, expected) in [
        (json!({}), &["no_level"][..]),
        (json!({ "l": "owner", "b": [] }), &["unknown_level"]),
        (
            json!({ "l": "write", "b": { "_type": "zip", "_data": {} } }),
            &["unknown_form_of_buckets"],
        ),
        (json!({ "l": "write", "b": { "_data": {} } }), &["unknown_form_of_buckets"]),
        (json!({ "l": "write", "b": { "_type": "groups", "_data": [] } }), &["corrupt_buckets"]),
        (
            json!({ "b": { "_type": "compressed", "_data": "WyJxdWlsdC1z" } }),
            &["no_level", "corrupt_buckets"],
        ),
        (json!({ "l": "write", "b": "quilt-demos" }), &["corrupt_buckets"]),
        // the full list counts, so the other one matters to nobody
        (json!({ "l": "write", "b": { "_type": "zip" }, "buckets": ["quilt-demos"] }), none),
    ] {
        assert_eq!(flaws(payload.clone()), expected, "{payload}");
    }
}

#[test]
fn what_cannot_be_read_allows_nothing() {
    for b in [
        json!(null),
        json!("quilt-a"),
        json!(7),
        json!({}),
        json!({ "_type": "zip", "_data": {} }),
        json!({ "_type": "groups" }),
        json!({ "_type": "groups", "_data": ["quilt-a"] }),
        json!({ "_type": "groups", "_data": { "quilt": "a", "z": { "0": "b" } } }),
        json!({ "_type": ["groups"], "_data": { "quilt": ["a"] } }),
        json!({ "_type": "compressed", "_data": "WyJxdWlsdC1zYW5kYm94Il" }),
        json!({ "_type": "compressed", "_data": BASE64.encode(b"{\"0\":\"quilt-a\"}") }),
        json!({ "_data": { "quilt": ["a"] } }),
        json!([7, null, ["quilt-a"], { "name": "quilt-a" }, ""]),
    ] {
        let claims = expand(&json!({ "p": ["g"], "b": b }));
        assert!(claims.buckets.is_empty(), "{b}: {claims:?}");
        assert!(!claims.allows("s3:GetObject", "quilt-a"), "{b}");
    }
    let claims =
        expand(&json!({ "s": 1, "scope": {}, "l": true, "p": "g", "r": { "0": "Admin" } }));
    let flaws = BTreeSet::from([Flaw::NoLevel]);
    assert_eq!(claims, EnhancedClaims { flaws, ..EnhancedClaims::default() });
}

#[test]
fn an_absent_level_and_an_unknown_one_are_the_least() {
    for l in [json!(null), json!(""), json!("Admin"), json!("root"), json!(["admin"])] {
        assert_eq!(expand(&json!({ "l": l })).level, Level::Read, "{l}");
    }
    assert_eq!(expand(&json!({ "l": "", "level": "write" })).level, Level::Write);
}

#[test]
fn a_catalogs_own_codes_add_to_the_common_ones_and_change_none() {
    let codes = [("gt", "s3:GetObjectTagging"), ("g", "s3:*")];
    let codes: Codes = codes.map(|(code, name)| (code.to_owned(), name.to_owned())).into();
    let Value::Object(payload) = json!({ "p": ["g", "gt", "zz"] }) else { panic!() };
    let permissions = EnhancedClaims::expand(&payload, &codes).permissions;
    assert_eq!(permissions, set(&json!(["s3:GetObject", "s3:GetObjectTagging", "zz"])));
    // a listed permission is no code
    let Value::Object(payload) = json!({ "permissions": ["gt"] }) else { panic!() };
    assert_eq!(EnhancedClaims::expand(&payload, &codes).permissions, set(&json!(["gt"])));
}

#[test]
fn a_role_counts_by_one_name_whatever_a_token_calls_it() {
    let aliases = [("ReadQuiltV2", "ReadOnlyQuilt"), ("ReadOnlyQuilt", "AdminQuilt")];
    let aliases: Aliases = aliases.map(|(alias, name)| (alias.to_owned(), name.to_owned())).into();
    let roles = |r: Value| expand(&json!({ "r": r })).with_roles_by(&aliases).roles;
    assert_eq!(roles(json!(["ReadQuiltV2", "other"])), set(&json!(["ReadOnlyQuilt", "other"])));
    // not a chain: what is written is what holds
    assert_eq!(roles(json!(["ReadOnlyQuilt"])), set(&json!(["AdminQuilt"])));
}

#[test]
fn a_permission_counts_in_the_users_buckets_only_and_a_star_is_all_of_them() {
    let claims = expand(&json!({ "p": ["g"], "b": ["a"] }));
    assert!(claims.allows("s3:GetObject", "a"));
    assert!(!claims.allows("s3:GetObject", "b") && !claims.allows("s3:PutObject", "a"));
    let claims = expand(&json!({ "p": ["g"], "b": ["*"] }));
    assert!(claims.allows("s3:GetObject", "b"));
    // a star within a name is no pattern
    assert!(!expand(&json!({ "p": ["g"], "b": ["a*"] })).allows("s3:GetObject", "ab"));
}

#[test]
fn a_long_prefix_before_many_names_comes_to_nothing() {
    let prefix = "p".repeat(MAX_NAME);
    let many = vec!["x"; 10_000];
    let claims = expand(&json!({ "b": { "_type": "groups", "_data": { (prefix): many } } }));
    assert!(claims.buckets.is_empty());
}

/// A bucket's name as the encoder of the reference takes it apart and puts it together.
fn bucket() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}-[a-z0-9-]{1,12}"
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just("groups"),
            Just("patterns"),
            Just("compressed"),
            Just("quilt"),
            Just("admin"),
            Just("g"),
        ]
        .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("_type".to_owned()),
        Just("_data".to_owned()),
        Just("quilt".to_owned()),
        ".{0,4}",
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((key.clone(), inner), 0..6)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

/// Every text anywhere in a value.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|each| texts(each, found)),
        Value::Object(all) => all.values().for_each(|each| texts(each, found)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn buckets_survive_each_form(all in vec(bucket(), 0..40)) {
        let expected: BTreeSet<String> = all.iter().cloned().collect();
        let mut groups = Map::new();
        let mut patterns = Map::new();
        for name in &all {
            let (prefix, rest) = name.split_once('-').unwrap();
            let (kind, kept) = if prefix == "quilt" { ("quilt", rest) } else { ("other", name.as_str()) };
            for (lists, key, word) in [(&mut groups, prefix, rest), (&mut patterns, kind, kept)] {
                lists.entry(key).or_insert_with(|| json!([])).as_array_mut().unwrap().push(json!(word));
            }
        }
        let text = json!(all).to_string();
        for b in [
            json!(all),
            json!({ "_type": "groups", "_data": groups }),
            json!({ "_type": "patterns", "_data": patterns }),
            json!({ "_type": "compressed", "_data": BASE64.encode(text.as_bytes()) }),
            json!({ "_type": "compressed", "_data": BASE64_NOPAD.encode(text.as_bytes()) }),
        ] {
            prop_assert_eq!(&expand(&json!({ "b": b })).buckets, &expected, "{}", b);
        }
    }

    #[test]
    fn whatever_the_reference_makes_of_names_comes_back(all in vec(bucket(), 0..40)) {
        let expected: BTreeSet<String> = all.iter().cloned().collect();
        prop_assert_eq!(expand(&json!({ "b": encode(&all) })).buckets, expected);
    }

    /// The reference keeps order and repetition, and nothing there is decided by them.
    #[test]
    fn in_another_order_or_said_twice_claims_are_the_same(
        (listed, shuffled) in vec(bucket(), 1..12).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        again in any::<proptest::sample::Index>(),
    ) {
        let twice = [&shuffled[..], &[again.get(&shuffled).clone()]].concat();
        for (short, long) in [("p", "permissions"), ("r", "roles"), ("b", "buckets")] {
            for name in [short, long] {
                let claims = |list: &[String]| expand(&json!({ (name): list }));
                prop_assert_eq!(claims(&listed), claims(&twice), "{}", name);
                prop_assert_eq!(claims(&listed).canonical(), claims(&twice).canonical(), "{}", name);
            }
        }
        let grouped = |list: &[String]| expand(&json!({ "b": { "_type": "groups", "_data": { "x": list } } }));
        prop_assert_eq!(grouped(&listed), grouped(&twice));
    }

    #[test]
    fn whatever_a_payload_holds_it_allows_no_more_than_it_says(
        values in vec(json_value(), 8),
    ) {
        let names = ["s", "l", "p", "r", "b", "permissions", "roles", "buckets"];
        let payload: Map<String, Value> =
            names.iter().map(|name| (*name).to_owned()).zip(values).collect();
        let claims = EnhancedClaims::expand(&payload, &Codes::new());
        let mut said = Vec::new();
        texts(&Value::Object(payload.clone()), &mut said);
        for permission in &claims.permissions {
            let is_of_code = CODES.iter().any(|(code, name)| name == permission && said.iter().any(|it| it == code));
            prop_assert!(said.contains(permission) || is_of_code, "{permission}");
        }
        for role in &claims.roles {
            prop_assert!(said.contains(role), "{role}");
        }
        // packed ones are texts of their own
        let is_packed = payload["b"]["_type"] == "compressed";
        for bucket in &claims.buckets {
            prop_assert!((1..=MAX_NAME).contains(&bucket.len()));
            prop_assert!(is_packed || said.iter().any(|text| bucket.ends_with(text.as_str())), "{bucket}");
        }
    }
}
