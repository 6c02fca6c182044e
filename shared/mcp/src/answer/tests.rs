//! The verdict on an answer, and that it does not depend on where the answer is cut.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn awaited(request: &str) -> Awaited {
    Awaited::of(&Envelope::scan(request.as_bytes()).unwrap())
}

fn one() -> Awaited {
    awaited(r#"{"jsonrpc":"2.0","id":"a\u0031","method":"ping"}"#)
}

fn two() -> Awaited {
    awaited(
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":"b","method":"ping"}]"#,
    )
}

/// The verdict on the whole, having made sure that every cut in two has the same.
fn heard(answer: &str, awaited: &Awaited) -> Result<Heard, Malformed> {
    let whole = AnswerScan::whole(answer.as_bytes(), awaited);
    for cut in 0..=answer.len() {
        let mut scan = AnswerScan::default();
        scan.push(&answer.as_bytes()[..cut], awaited);
        scan.push(&answer.as_bytes()[cut..], awaited);
        assert_eq!(scan.finish(), whole, "cut at {cut}: {answer}");
    }
    whole
}

#[test]
fn a_response_with_the_requests_id_is_its_answer_in_whatever_order_and_spelling() {
    for answer in [
        r#"{"jsonrpc":"2.0","id":"a1","result":{}}"#,
        r#"{"result":{"id":"zz","x":[1,-0.5e+3,true,null,"\ud83d \u00e9 é"]},"jsonrpc":"2.0","id":"\u00611"}"#,
        " {\"j\\u0073onrpc\" : \"2.0\" , \"id\":\"a1\",\n\"error\":{\"code\":1,\"message\":\"m\"}}\r\n\t",
        r#"{"jsonrpc":"2.0","id":"a1","result":null,"extra":{"deep":[[[]]]}}"#,
    ] {
        assert!(heard(answer, &one()).unwrap().answers(&one()), "{answer}");
    }
}

#[test]
fn another_id_is_foreign() {
    for id in ["1", r#""a2""#, r#""a""#, r#""a11""#, "true", "0.5", r#""x\u0061""#] {
        for answer in [
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
            format!(r#"{{"error":{{}},"id":{id},"jsonrpc":"2.0"}}"#),
        ] {
            let heard = heard(&answer, &one()).unwrap();
            assert!(heard.foreign && !heard.answers(&one()) && !heard.answers_any(), "{answer}");
        }
    }
    let endless = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, "a".repeat(5_000));
    assert!(AnswerScan::whole(endless.as_bytes(), &one()).unwrap().foreign);
}

#[test]
fn a_result_without_an_id_is_foreign_and_an_error_without_one_names_nobody() {
    for id in ["", r#""id":null,"#] {
        let result = format!(r#"{{"jsonrpc":"2.0",{id}"result":{{}}}}"#);
        assert!(heard(&result, &one()).unwrap().foreign, "{result}");
        let error = format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":-32000}}}}"#);
        let heard = heard(&error, &one()).unwrap();
        assert!(heard.is_nameless_error() && !heard.answers(&one()), "{error}");
    }
}

#[test]
fn requests_and_notifications_are_told_from_responses() {
    for message in [
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#,
    ] {
        let heard = heard(message, &one()).unwrap();
        assert!(heard.spoken && !heard.foreign && !heard.answers_any(), "{message}");
    }
}

#[test]
fn a_batch_answers_when_each_request_has_its_response_once() {
    let (a, b) = (r#"{"jsonrpc":"2.0","id":1,"result":1}"#, r#"{"jsonrpc":"2.0","id":"b","result":2}"#);
    for both in [format!("[{a},{b}]"), format!("[ {b} , {a} ]")] {
        assert!(heard(&both, &two()).unwrap().answers(&two()));
    }
    for wrong in [format!("[{a}]"), format!("[{a},{a}]"), format!("[{a},{b},{a}]"), a.to_owned()] {
        assert!(!heard(&wrong, &two()).unwrap().answers(&two()), "{wrong}");
    }
    let mut open = two();
    open.settle(&heard(a, &two()).unwrap());
    assert_eq!(open.open_ids().collect::<Vec<_>>(), [r#""b""#]);
    assert!(heard(a, &open).unwrap().foreign, "a second response to the same request");
    open.settle(&heard(b, &open).unwrap());
    assert!(open.is_over());
}

#[test]
fn what_is_no_message_is_told_apart() {
    for (answer, verdict) in [
        ("", Malformed::NotJson),
        (" \n", Malformed::NotJson),
        ("<html>", Malformed::NotJson),
        (r#"{"jsonrpc":"2.0","id":"a1","result":{}"#, Malformed::Truncated),
        (r#"{"jsonrpc":"2.0","id":"a1","resu"#, Malformed::Truncated),
        (r#"{"jsonrpc":"2.0","id":"a1","result":{}}x"#, Malformed::NotJson),
        (r#"{"jsonrpc":"2.0","id":"a1","result":{}}{}"#, Malformed::NotJson),
        (r#"{"id":"a1"}x"#, Malformed::NotMessage),
        (r#"["id":"a1"}"#, Malformed::NotMessage),
        ("[]", Malformed::NotMessage),
        ("[[]]", Malformed::NotMessage),
        ("[1]", Malformed::NotMessage),
        (r#""text""#, Malformed::NotMessage),
        ("null", Malformed::NotMessage),
        ("{}", Malformed::NotMessage),
        (r#"{"id":"a1","result":{}}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":"1.0","id":"a1","result":{}}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":2.0,"id":"a1","result":{}}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":"2.0","id":"a1"}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":"2.0","id":"a1","result":{},"error":{}}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":"2.0","id":"a1","id":"a1","result":{}}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":"2.0","id":"a1","error":"no"}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":"2.0","id":{},"result":{}}"#, Malformed::NotMessage),
        (r#"{"jsonrpc":"2.0","id":"a1","method":"x","result":{}}"#, Malformed::NotMessage),
    ] {
        assert_eq!(heard(answer, &one()), Err(verdict), "{answer}");
    }
    let deep = format!(r#"{{"result":{}"#, "[".repeat(ostler_core::limits::ANSWER_DEPTH_MAX));
    assert_eq!(AnswerScan::whole(deep.as_bytes(), &one()), Err(Malformed::TooDeep));
}

#[test]
fn text_that_is_not_utf8_is_no_json() {
    for text in [&b"\xff"[..], b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80\x80"] {
        let answer = [br#"{"jsonrpc":"2.0","id":"a1","result":""#, text, br#""}"#].concat();
        for cut in 0..answer.len() {
            let mut scan = AnswerScan::default();
            scan.push(&answer[..cut], &one());
            scan.push(&answer[cut..], &one());
            assert_eq!(scan.finish(), Err(Malformed::NotJson), "{text:?} cut at {cut}");
        }
    }
}

#[test]
fn a_scan_that_was_finished_starts_anew() {
    let mut scan = AnswerScan::default();
    scan.push(b"garbage", &one());
    assert!(scan.finish().is_err());
    scan.push(br#"{"jsonrpc":"2.0","id":"a1","result":{}}"#, &one());
    assert!(scan.finish().unwrap().answers(&one()));
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(".{0,5}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_json_is_what_serde_json_takes_wherever_it_is_cut(
        value in json(),
        pretty in any::<bool>(),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let answer = serde_json::json!({"result": value, "jsonrpc": "2.0", "id": "a1"});
        let mut bytes =
            if pretty { serde_json::to_vec_pretty(&answer) } else { serde_json::to_vec(&answer) }.unwrap();
        if let Some((place, byte)) = damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let whole = AnswerScan::whole(&bytes, &one());
        let parsed = serde_json::from_slice::<Value>(&bytes);
        let is_json = !matches!(whole, Err(Malformed::NotJson | Malformed::Truncated));
        if let Err(error) = &parsed {
            // What is deliberately passed: see the head of `json`.
            let tolerated = ["out of range", "surrogate", "hex escape"].iter().any(|word| error.to_string().contains(word));
            // The verdict that something is no message may come before the text stops being JSON.
            let known_before = whole == Err(Malformed::NotMessage)
                && (0..bytes.len()).any(|cut| AnswerScan::whole(&bytes[..cut], &one()) == whole);
            prop_assert!(!is_json || tolerated || known_before, "{error}: {}", String::from_utf8_lossy(&bytes));
        } else if damage.is_none() {
            prop_assert!(whole.unwrap().answers(&one()));
        } else {
            prop_assert!(is_json);
        }
        let mut scan = AnswerScan::default();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            scan.push(&bytes[from..cut], &one());
            from = cut;
        }
        prop_assert_eq!(scan.finish(), whole);
    }
}

/// What is said of awaited requests, of a whole answer and of the same in pieces.
fn said(answer: &str, awaited: &Awaited) -> Vec<(usize, Said)> {
    let whole: Vec<_> = AnswerScan::whole(answer.as_bytes(), awaited).unwrap().said().collect();
    for cut in 0..answer.len() {
        let mut scan = AnswerScan::default();
        let (one, other) = answer.as_bytes().split_at(cut);
        scan.push(one, awaited);
        scan.push(other, awaited);
        assert_eq!(scan.finish().unwrap().said().collect::<Vec<_>>(), whole, "{answer} cut at {cut}");
    }
    whole
}

#[test]
fn what_a_response_says_is_read_where_it_says_it_and_nowhere_else() {
    let one = Awaited::of(
        &Envelope::scan(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#).unwrap(),
    );
    for (body, expected) in [
        (r#""result":{}"#, Said::Result),
        (r#""result":{"isError":true}"#, Said::ToolError),
        (r#""result":{"content":[{"isError":false}],"isError" : true ,"x":1}"#, Said::ToolError),
        (r#""result":{"is\u0045rror":true}"#, Said::ToolError),
        (r#""result":{"isError":false}"#, Said::Result),
        (r#""result":{"isError":"true"}"#, Said::Result),
        (r#""result":{"content":[{"isError":true}],"structuredContent":{"isError":true}}"#, Said::Result),
        (r#""result":[true,"isError",{"isError":true}]"#, Said::Result),
        (r#""result":"isError","isError":true"#, Said::Result),
        (
            r#""error":{"code":-32000,"message":"m","data":{"code":1,"isError":true}}"#,
            Said::Error(Some(-32000)),
        ),
        (r#""error":{"data":[{"code":2}],"co\u0064e":7}"#, Said::Error(Some(7))),
        (r#""error":{"message":"m"}"#, Said::Error(None)),
        (r#""error":{"code":1.5}"#, Said::Error(None)),
        (r#""error":{"code":"7"}"#, Said::Error(None)),
        (r#""error":{"code":99999999999999999999}"#, Said::Error(None)),
    ] {
        for answer in [
            format!(r#"{{"jsonrpc":"2.0","id":1,{body}}}"#),
            format!(r#"{{{body},"id":1,"jsonrpc":"2.0"}}"#),
            format!(
                r#"[{{"jsonrpc":"2.0","method":"isError","params":{{"isError":true,"code":3}}}},{{"jsonrpc":"2.0","id":1,{body}}}]"#
            ),
        ] {
            assert_eq!(said(&answer, &one), [(0, expected)], "{answer}");
            if let Ok(envelope) = Envelope::scan(answer.as_bytes()).map(|it| it.said())
                && !answer.starts_with('[')
            {
                assert_eq!(envelope, Some(expected), "{answer}");
            }
        }
    }
}

#[test]
fn each_request_of_a_batch_is_said_something_of_its_own() {
    let request =
        |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"a"}}}}"#);
    let batch = format!("[{},{},{}]", request(1), request(2), request(3));
    let awaited = Awaited::of(&Envelope::scan(batch.as_bytes()).unwrap());
    let answer = r#"[{"jsonrpc":"2.0","id":3,"error":{"code":-5,"message":""}},{"jsonrpc":"2.0","id":1,"result":{"isError":true}},{"jsonrpc":"2.0","id":2,"result":{}}]"#;
    assert_eq!(said(answer, &awaited), [(0, Said::ToolError), (1, Said::Result), (2, Said::Error(Some(-5)))]);
    let nameless = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}"#;
    let heard = AnswerScan::whole(nameless.as_bytes(), &awaited).unwrap();
    assert_eq!((heard.said().count(), heard.nameless()), (0, Some(Said::Error(Some(-32700)))));
}
