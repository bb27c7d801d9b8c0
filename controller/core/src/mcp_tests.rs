use super::*;
use proptest::prelude::*;
use serde_json::json;

fn read(text: &str) -> Result<Said<'_>, BadMessage> {
    Said::read(text.as_bytes())
}

fn form(text: &str) -> bool {
    matches!(read(text), Err(BadMessage::Form(_)))
}

#[test]
fn a_call_is_read_whole() {
    let text = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call",
        "params":{"name":"echo","arguments":{"text":"x"},"_meta":{}}}"#;
    let said = read(text).unwrap();
    let [message] = &said.messages[..] else { panic!("{said:?}") };
    assert!(!said.is_batch && !said.lists_tools());
    assert_eq!((message.tool(), message.resource()), (Some("echo"), None));
    assert_eq!(message.arguments.as_ref().unwrap().get("text").unwrap().as_text(), Some("x"));
    assert_eq!(message.id.as_ref().unwrap().as_text(), Some("a"));
    for empty in ["", r#","arguments":null"#, r#","arguments":{}"#] {
        let text = format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"t"{empty}}}}}"#);
        assert_eq!(read(&text).unwrap().messages[0].tool(), Some("t"), "{text}");
    }
}

#[test]
fn what_is_no_message_is_refused() {
    for text in [
        "1",
        "[]",
        "[1]",
        r#"[[{"method":"ping","id":1}]]"#,
        "{}",
        r#"{"id":1}"#,
        r#"{"id":1,"method":1}"#,
        r#"{"id":1,"method":["tools/call"]}"#,
        r#"{"id":null,"method":"ping"}"#,
        r#"{"id":{},"method":"ping"}"#,
        r#"{"id":1,"method":"ping","result":{}}"#,
        r#"{"id":1,"method":""}"#,
        r#"{"id":1,"method":"tools/call "}"#,
        r#"{"id":1,"method":"tools/call\u0000"}"#,
        r#"{"id":1,"method":"tools\u2215call"}"#,
        r#"{"method":"tools/call","params":{"name":"t"}}"#,
        r#"{"id":1,"method":"tools/call"}"#,
        r#"{"id":1,"method":"tools/call","params":[{"name":"t"}]}"#,
        r#"{"id":1,"method":"tools/call","params":{}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":1}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"t","arguments":"{}"}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"t","arguments":[]}}"#,
        r#"{"id":1,"method":"resources/read","params":{"uri":{}}}"#,
    ] {
        assert!(form(text), "{text}: {:?}", read(text));
    }
}

#[test]
fn what_a_forgiving_server_would_take_for_a_call_is_refused() {
    for text in [
        r#"{"id":1,"Method":"tools/call","params":{"name":"t"}}"#,
        r#"{"id":1,"method":"ping","METHOD":"tools/call"}"#,
        r#"{"id":1,"method":"tools/Call","params":{"name":"t"}}"#,
        r#"{"id":1,"method":"toolſ/call","params":{"name":"t"}}"#,
        r#"{"id":1,"method":"tools/call","Params":{"name":"t"}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"t","Name":"u"}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"t","Arguments":{}}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"t","ARGUMENTſ":{}}}"#,
        r#"{"id":1,"method":"resources/read","params":{"uri":"a","URI":"b"}}"#,
    ] {
        let refused = matches!(read(text), Err(BadMessage::Lookalike(_) | BadMessage::Form(_)));
        assert!(refused, "{text}: {:?}", read(text));
    }
    let twice = r#"{"id":1,"method":"tools/call","params":{"name":"t","na\u006de":"u"}}"#;
    assert_eq!(read(twice), Err(BadMessage::Json(Unreadable::Twice)));
}

#[test]
fn requests_count_and_what_needs_no_work_does_not() {
    let text = json!([
        {"id": 1, "method": "tools/call", "params": {"name": "t"}},
        {"id": 2, "method": "tools/list"},
        {"id": 3, "method": "initialize", "params": {}},
        {"id": 4, "method": "ping"},
        {"id": 5, "method": "subscriptions/listen", "params": {}},
        {"method": "notifications/cancelled", "params": {"requestId": 1}},
        {"id": 6, "result": {}},
        {"id": 7, "error": {"code": 1, "message": ""}},
    ])
    .to_string();
    let said = read(&text).unwrap();
    assert!(said.is_batch && said.lists_tools());
    assert_eq!(said.calls(), 3);
}

#[test]
fn a_header_says_what_the_body_says_or_is_refused() {
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"écho"}}"#;
    let said = read(call).unwrap();
    let encoded = format!("=?base64?{}?=", BASE64.encode("écho".as_bytes()));
    let (absent, says) = (Header::Absent, Header::Says);
    assert_eq!(said.agrees(absent, absent), Ok(()));
    assert_eq!(said.agrees(says("tools/call"), says(&encoded)), Ok(()));
    for (method, name) in [
        (says("ping"), absent),
        (says("Tools/call"), absent),
        (Header::Unclear, absent),
        (absent, says("echo")),
        (absent, Header::Unclear),
        (absent, says("=?base64?!?=")),
        (absent, says("=?base64?/w==?=")),
    ] {
        assert!(said.agrees(method, name).is_err(), "{method:?} {name:?}");
    }
    // a response has no method, and a name is repeated of some methods alone
    let response = read(r#"{"id":1,"result":{}}"#).unwrap();
    assert!(response.agrees(says("tools/call"), absent).is_err());
    let list = read(r#"{"id":1,"method":"tools/list"}"#).unwrap();
    assert_eq!(list.agrees(says("tools/list"), says("x")), Ok(()));
}

proptest! {
    #[test]
    fn any_call_is_read_as_what_it_is(tool in ".+", id: i64, key in ".*", value in ".*") {
        let text = json!({
            "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": tool, "arguments": { key: value } },
        })
        .to_string();
        let said = Said::read(text.as_bytes()).unwrap();
        prop_assert_eq!(said.messages[0].tool(), Some(&*tool));
        prop_assert_eq!(said.calls(), 1);
    }

    #[test]
    fn no_bytes_break_the_reader(bytes: Vec<u8>) {
        let _ = Said::read(&bytes);
    }
}
