//! What counts as a trace, and that nothing a sender writes can do more than be ignored.

use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn header(name: &str, value: impl Into<Bytes>) -> Header {
    Header {
        name: name.to_owned(),
        value: Some(value.into()),
    }
}

#[test]
fn a_context_comes_back_as_it_was_sent() {
    let sent = PARENT
        .parse::<TraceContext>()
        .unwrap()
        .with_state("vendor=1,other@x=a b");
    let mut headers = vec![header("other", "x")];
    into_headers(&sent, &mut headers);
    assert_eq!(headers[1], header("traceparent", PARENT));
    let received = from_headers(&headers).unwrap();
    assert_eq!(received, sent);
    assert!(received.is_sampled());
    assert_eq!(received.state(), Some("vendor=1,other@x=a b"));
    assert_eq!(
        received.span_id(),
        [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
    );
}

#[test]
fn a_traceparent_that_the_program_wrote_itself_is_left_alone() {
    let context = PARENT.parse::<TraceContext>().unwrap();
    let mut headers = vec![header("traceparent", "mine")];
    into_headers(&context, &mut headers);
    assert_eq!(headers, vec![header("traceparent", "mine")]);
}

#[test]
fn what_is_no_traceparent_is_refused_with_its_reason() {
    for (text, reason) in [
        ("", TraceparentError::Shape),
        ("00", TraceparentError::Shape),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            TraceparentError::Shape,
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            TraceparentError::Shape,
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            TraceparentError::Shape,
        ),
        (
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            TraceparentError::Hexadecimal,
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            TraceparentError::Hexadecimal,
        ),
        (
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            TraceparentError::Version,
        ),
        (
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            TraceparentError::Zero,
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            TraceparentError::Zero,
        ),
    ] {
        assert_eq!(text.parse::<TraceContext>(), Err(reason), "{text:?}");
    }
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known_and_passed_on_as_ours() {
    let later = format!("cc{}-what-comes-later", &PARENT[2..]);
    assert_eq!(later.parse::<TraceContext>().unwrap().to_string(), PARENT);
    // Flags of later versions are not ours to pass on.
    let flags = PARENT.replace("-01", "-ff").parse::<TraceContext>().unwrap();
    assert_eq!(flags.to_string(), PARENT);
}

#[test]
fn two_traceparents_contradict_each_other_and_a_broken_state_costs_only_itself() {
    let parent = || header("traceparent", PARENT);
    assert_eq!(from_headers(&[parent(), parent()]), None);
    assert_eq!(from_headers(&[header("tracestate", "a=1")]), None);
    let long = format!("a={}", "x".repeat(511));
    let many = ["a=1"; 33].join(",");
    for state in ["", "novalue", "A=1", "a=b=c", "a=\u{e9}", &long, &many] {
        let context = from_headers(&[parent(), header("tracestate", state.to_owned())]).unwrap();
        assert_eq!(context.state(), None, "{state:?}");
    }
    let null = Header {
        name: "traceparent".to_owned(),
        value: None,
    };
    assert_eq!(from_headers(&[null]), None);
    assert_eq!(from_headers(&[header("traceparent", vec![0xff, 0xfe])]), None);
}

#[test]
fn an_id_of_zeros_makes_no_context() {
    assert_eq!(TraceContext::new([0; 16], [1; 8], true), None);
    assert_eq!(TraceContext::new([1; 16], [0; 8], true), None);
}

proptest! {
    #[test]
    fn any_ids_survive_the_text(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool) {
        prop_assume!(trace != [0; 16] && span != [0; 8]);
        let context = TraceContext::new(trace, span, sampled).unwrap();
        prop_assert_eq!(context.to_string().parse::<TraceContext>(), Ok(context));
    }

    #[test]
    fn any_bytes_are_a_trace_that_can_be_written_again_or_none(
        parent in proptest::collection::vec(any::<u8>(), 0..300),
        state in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        if let Some(context) = from_headers(&[header("traceparent", parent), header("tracestate", state)]) {
            prop_assert!(context.to_string().parse::<TraceContext>().is_ok());
        }
    }

    #[test]
    fn what_nearly_is_a_traceparent_never_panics(text in "[0-9a-f]{2}-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}(-.{0,8})?") {
        if let Ok(context) = text.parse::<TraceContext>() {
            prop_assert!(text[3..].starts_with(&context.to_string()[3..52]));
        }
    }
}
