//! Requests of the API.

use crate::message;
use vgpud::{
    engine::placement::Want,
    failure::Failure,
    fuzzing::{self, Asked},
};

/// A message, read as the request of each call that has a content.
pub fn grpc_request(data: &[u8]) {
    for read in fuzzing::requests(data) {
        match read {
            Ok(asked) => sound(&asked),
            Err(error) => {
                message::check_error(&error, "");
                assert_eq!(tonic_code(&Failure::from(&error)), "InvalidArgument");
            }
        }
    }
}

fn tonic_code(failure: &Failure) -> String {
    format!("{:?}", failure.code)
}

/// What the core takes for granted.
fn sound(asked: &Asked) {
    match asked {
        Asked::Create(request) => {
            assert!((1..=4096).contains(&request.count));
            want(&request.want);
        }
        Asked::Profiles(filter) => filter.iter().for_each(want),
        Asked::History(filter) => {
            if let Some(slice) = filter.slice {
                assert_eq!(slice.to_string().parse(), Ok(slice));
            }
        }
        Asked::Slice(id) => assert_eq!(id.to_string().parse(), Ok(*id)),
        Asked::Gpu(gpu) => assert_eq!(gpu.to_string().parse(), Ok(*gpu)),
        Asked::Reason(reason) => {
            assert!((1..=400).contains(&reason.chars().count()));
            assert!(!reason.chars().any(char::is_control));
        }
        Asked::Owner(owner) => assert_eq!(owner.to_string().parse().as_ref(), Ok(owner)),
        Asked::Terms(consumer, time) => {
            if let Some(consumer) = consumer {
                assert_eq!(consumer.to_string().parse().as_ref(), Ok(consumer));
            }
            assert!(time.is_none_or(|time| !time.is_zero()));
        }
    }
}

fn want(want: &Want) {
    match want {
        Want::Profile(name) => assert_eq!(name.to_string().parse().as_ref(), Ok(name)),
        Want::Size { memory, compute } => {
            assert!(memory.is_some() || compute.is_some());
            if let Some(memory) = memory {
                assert_eq!(memory.to_string().parse(), Ok(*memory));
            }
            if let Some(compute) = compute {
                assert_eq!(compute.request.to_string().parse(), Ok(compute.request));
            }
        }
    }
    message::check(&want.to_string());
}
