//! Names, quantities and addresses that people type.

use crate::message;
use std::{error::Error, fmt::Display, str::FromStr};
use vgpud::engine::SliceId;
use vgpud_config::{
    Account, ClassName, ComputeRequest, ComputeShare, ConsumerName, MechanismKind, Memory, NumaAffinity,
    Owner, PciAddress, PciId, Principal, ProfileName,
};
use vgpud_mdev::MdevUuid;
use vgpud_vmm::{node::Node, preflight::Level};

/// One word, read as each kind of name.
pub fn words(data: &[u8]) {
    let text = &crate::text(data);
    check::<PciAddress>(text);
    check::<PciId>(text);
    check::<MechanismKind>(text);
    check::<Owner>(text);
    check::<ProfileName>(text);
    check::<Principal>(text);
    check::<Account>(text);
    check::<ConsumerName>(text);
    check::<Memory>(text);
    check::<ComputeShare>(text);
    check::<ComputeRequest>(text);
    check::<ClassName>(text);
    check::<NumaAffinity>(text);
    // The uuid crate's errors do not name the value; what reads one does.
    if let Ok(uuid) = text.parse::<MdevUuid>() {
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
    }
    check::<SliceId>(text);
    check::<Level>(text);
    if let Err(error) = vgpud::fuzzing::since(text) {
        message::check_error(&*error, text);
    }
    if let Ok(node) = Node::from_path(text.as_ref()) {
        assert_eq!(Node::from_path(node.path()).ok(), Some(node));
    }
}

/// What is read is written so that it reads as the same; what is refused is named.
pub(crate) fn check<T>(text: &str)
where
    T: FromStr<Err: Error + 'static> + Display + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            message::check(&written);
            assert!(written.parse::<T>().is_ok_and(|again| again == value), "{text:?} became {written:?}");
        }
        Err(error) => message::check_error(&error, text),
    }
}
