use super::*;
use crate::agent::{held_grant::Claims, policy::Policy};
use http_body_util::{BodyExt as _, channel::Channel};
use patchbay_core::{
    class::{Profile, TenantLimits},
    tools::ToolPolicy,
};
use proptest::prelude::*;
use std::{convert::Infallible, sync::Arc};

fn listing() -> Listing {
    let tools =
        ToolPolicy { deny: ["drop".to_owned()].into(), hide_denied: true, ..ToolPolicy::default() };
    let policy = Policy::new(Some(tools), TenantLimits::default(), Profile::Generic).unwrap();
    Listing { policy: Arc::new(policy), claims: Claims::Absent, request_id: None }
}

/// What is passed on of a stream that comes in these pieces.
fn passed(pieces: &[&[u8]]) -> String {
    let mut events = Events::new((), listing());
    let mut all = BytesMut::new();
    for piece in pieces {
        if events.source.is_some() {
            events.splitter.held.extend_from_slice(piece);
            all.extend_from_slice(&events.passed(false));
        }
    }
    if events.source.is_some() {
        all.extend_from_slice(&events.passed(true));
    }
    String::from_utf8(all.to_vec()).unwrap()
}

const LIST: &str = r#"{"id":1,"result":{"tools":[{"name":"drop"},{"name":"echo"}]}}"#;
const LEFT: &str = r#"{"id":1,"result":{"tools":[{"name":"echo"}]}}"#;

#[test]
fn an_event_with_a_list_loses_what_is_denied_and_keeps_its_other_fields() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = format!(": ping{end}{end}id: 7{end}event: message{end}data: {LIST}{end}{end}");
        let expected = format!(": ping{end}{end}id: 7\nevent: message\ndata: {LEFT}\n\n");
        assert_eq!(passed(&[stream.as_bytes()]), expected, "{end:?}");
    }
    let over_lines = LIST.replace(",\"result\"", ",\ndata:\"result\"");
    let stream = format!("data:{over_lines}\n\n");
    assert_eq!(passed(&[stream.as_bytes()]), format!("data: {LEFT}\n\n"));
    // an end of the stream ends an event for some readers
    let cut = format!("\u{feff}data: {LIST}");
    assert_eq!(passed(&[cut.as_bytes()]), format!("data: {LEFT}\n\n"));
}

#[test]
fn what_lists_nothing_passes_as_it_is() {
    let stream = "retry: 5\nid: 1\ndata:\n\n: keep\n\n\ndata: {\"method\":\"notifications/progress\"}\r\n\r\n\
                  data: {\"id\":2,\"result\":{\"tools\":[{\"name\":\"echo\"}]}}\n\n";
    assert_eq!(passed(&[stream.as_bytes()]), stream);
}

#[test]
fn what_cannot_be_looked_through_ends_the_stream_with_an_error() {
    let good = "data: {\"method\":\"x\"}\n\n";
    for bad in ["data: {\n\n", "data: {\"result\":{\"tools\":[1]}}\n\n", "data: x\n\n"] {
        let all = passed(&[good.as_bytes(), bad.as_bytes(), good.as_bytes()]);
        let end = all.strip_prefix(good).unwrap();
        assert!(end.starts_with("event: message\ndata: {"), "{end}");
        assert!(end.contains("tools_unreadable") && !end.contains("\"x\""), "{end}");
    }
    let long = vec![b'x'; MAX_LIST_BYTES + 1];
    assert!(passed(&[b"data: ", &long]).contains("too long"));
}

#[tokio::test]
async fn events_pass_at_once_and_trailers_too() {
    let (mut server, body) = Channel::<Bytes, Infallible>::new(4);
    let mut events = Events::new(body, listing());
    server.send_data("data: {\"method\":\"a\"}\n\ndata: {\"me".into()).await.unwrap();
    let first = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: {\"method\":\"a\"}\n\n");
    server.send_data("thod\":\"b\"}\n\n".into()).await.unwrap();
    let second = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(second, "data: {\"method\":\"b\"}\n\n");
    server.send_trailers(http::HeaderMap::new()).await.unwrap();
    drop(server);
    assert!(events.frame().await.unwrap().unwrap().is_trailers());
    assert!(events.frame().await.is_none());
}

proptest! {
    #[test]
    fn it_does_not_matter_how_a_stream_is_cut(cuts in proptest::collection::vec(0usize..200, 0..12), end in "(\n|\r\n)") {
        let stream = format!("id: 1{end}data: {LIST}{end}{end}: c{end}{end}data: {{\"method\":\"m\"}}{end}{end}");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&stream.as_bytes()[from..cut]);
            from = cut;
        }
        pieces.push(&stream.as_bytes()[from..]);
        // an empty line more between events means nothing
        let without_empty = |text: String| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(without_empty(passed(&pieces)), without_empty(passed(&[stream.as_bytes()])));
    }
}
