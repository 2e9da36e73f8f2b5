//! Every error in one shape for the wire: a gRPC code, a stable word, a sentence, and its causes.
//!
//! This is the only place that says which error means what to a client. All matches are
//! exhaustive: a new error has to be given its meaning here.

use crate::{
    api,
    daemon::{
        AccessDenied, ConsumerError, Full, HolderError, LayoutError, RequestError, Unread,
        executor::EffectError, sandbox,
    },
    engine::{
        Rejected,
        placement::{Refusal, Shortage},
    },
    ledger,
};
use nix::errno::Errno;
use prost::Message as _;
use std::{error::Error as StdError, io};
use tonic::{Code, Status};
use vgpud_kata::cdi;
use vgpud_mdev as mdev;
use vgpud_vmm::{
    self as vmm, device::process::ProcessError, holders::HoldError, isolation::IsolationError,
    node::NodeError,
};

/// An error as a client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    /// Stable, for programs: `NO_SUCH_GPU`, `NO_CAPACITY`, …
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
    /// From the outermost to the innermost.
    pub causes: Vec<String>,
}

impl Failure {
    fn of(error: &(dyn StdError + 'static), (code, reason): (Code, &'static str)) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(sentence(cause));
            source = cause.source();
        }
        causes.extend(sandbox::hint(error).map(str::to_owned));
        Self { code, reason, message: error.to_string(), causes }
    }

    /// The daemon is going down; what was begun goes on when it is started again.
    #[must_use]
    pub fn stopping() -> Self {
        Self {
            code: Code::Unavailable,
            reason: "STOPPING",
            message: "vgpud is stopping; what was begun is finished after its next start".to_owned(),
            causes: vec![],
        }
    }

    /// The kernel does not come back from work on this GPU.
    #[must_use]
    pub fn stuck(what: &str) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            reason: "KERNEL_STUCK",
            message: format!(
                "The kernel does not answer: vgpud still waits to {what}; `dmesg` and the holder of the device may say why"
            ),
            causes: vec![],
        }
    }

    /// Other work on a GPU is under way that must end first.
    #[must_use]
    pub fn busy(what: &str) -> Self {
        let message = format!("vgpud is at work to {what}; try again when that is done");
        Self { code: Code::Aborted, reason: "BUSY", message, causes: vec![] }
    }

    /// The slice came to an end that this request did not ask for.
    #[must_use]
    pub fn overtaken(message: String) -> Self {
        Self { code: Code::Aborted, reason: "OVERTAKEN", message, causes: vec![] }
    }

    /// A client that follows the events does not read them.
    #[must_use]
    pub fn behind(last: u64) -> Self {
        Self {
            code: Code::Aborted,
            reason: "FELL_BEHIND",
            message: format!(
                "You fell behind and were cut off; ask again for the events after number {last}"
            ),
            causes: vec![],
        }
    }

    /// The GPU went away in the middle.
    #[must_use]
    pub fn vanished(message: String) -> Self {
        Self { code: Code::Unavailable, reason: "GPU_VANISHED", message, causes: vec![] }
    }

    /// The same, as the cause of something larger that failed.
    #[must_use]
    pub fn within(mut self, message: String) -> Self {
        self.causes.insert(0, std::mem::replace(&mut self.message, message));
        self
    }

    /// Sentence and causes in one line, for logs and evidence.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.message.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

/// An error's own words, a system error with its name: `Input/output error (EIO)`.
#[must_use]
pub fn sentence(error: &(dyn StdError + 'static)) -> String {
    let text = error.to_string();
    match error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        Some(number) => {
            text.replace(&format!("os error {number}"), &format!("{:?}", Errno::from_raw(number)))
        }
        None => text,
    }
}

/// The longest text of an error, in bytes: it travels in a header, of which clients take 16 KiB. Only
/// what a client wrote itself is longer.
const LONGEST: usize = 1024;

fn clipped(mut text: String) -> String {
    if text.len() > LONGEST {
        let whole = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(whole.unwrap_or_default());
        text.push('…');
    }
    text
}

impl From<Failure> for api::Failure {
    fn from(failure: Failure) -> Self {
        let causes = failure.causes.into_iter().map(clipped).collect();
        Self { reason: failure.reason.to_owned(), message: clipped(failure.message), causes }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = failure.code;
        let details = api::Failure::from(failure);
        Self::with_details(code, details.message.clone(), details.encode_to_vec().into())
    }
}

impl From<&Rejected> for Failure {
    fn from(error: &Rejected) -> Self {
        let meaning = match error {
            Rejected::NoSuchSlice(_) => (Code::NotFound, "NO_SUCH_SLICE"),
            Rejected::Leased { .. } => (Code::FailedPrecondition, "LEASED"),
            Rejected::Reserved { .. } => (Code::FailedPrecondition, "RESERVED"),
            Rejected::NotLeased { .. } => (Code::FailedPrecondition, "NOT_LEASED"),
            Rejected::OtherLease { .. } => (Code::Aborted, "OTHER_LEASE"),
            // Another piece of work on it is under way: a refusal by its present state.
            Rejected::Busy { .. } | Rejected::BeingPartitioned(_) => (Code::Aborted, "BUSY"),
            Rejected::NotEmpty { .. } => (Code::FailedPrecondition, "IN_USE"),
            Rejected::Quarantined { .. } => (Code::FailedPrecondition, "QUARANTINED"),
            Rejected::NotQuarantined { .. } | Rejected::GpuNotQuarantined(_) => {
                (Code::FailedPrecondition, "NOT_QUARANTINED")
            }
            Rejected::GpuAbsent { .. } | Rejected::QuarantinedGpuAbsent(_) => {
                (Code::FailedPrecondition, "GPU_ABSENT")
            }
            Rejected::GpuQuarantined { .. } => (Code::FailedPrecondition, "GPU_QUARANTINED"),
            Rejected::GpuStuck { .. } => (Code::FailedPrecondition, "KERNEL_STUCK"),
            Rejected::OtherInstance { .. } => (Code::FailedPrecondition, "OTHER_INSTANCE"),
            Rejected::OtherMechanism { .. } => (Code::FailedPrecondition, "OTHER_MECHANISM"),
            Rejected::Full { .. } => (Code::ResourceExhausted, "NO_CAPACITY"),
            Rejected::Quota(_) => (Code::ResourceExhausted, "QUOTA"),
            Rejected::NoEnd(_) => (Code::FailedPrecondition, "NO_LIMIT"),
            Rejected::EndsLater(_) => (Code::FailedPrecondition, "ENDS_LATER"),
            Rejected::NameTaken(_) => (Code::Aborted, "NAME_TAKEN"),
            Rejected::Unexpected { .. } | Rejected::NotRetiring(_) => (Code::Internal, "INTERNAL"),
        };
        Self::of(error, meaning)
    }
}

impl From<&Refusal> for Failure {
    fn from(error: &Refusal) -> Self {
        let meaning = match &error.shortage {
            Shortage::NoSuchGpu(_) => (Code::NotFound, "NO_SUCH_GPU"),
            Shortage::Unusable { .. } | Shortage::NothingToCut => (Code::FailedPrecondition, "GPU_UNUSABLE"),
            Shortage::NotOnNode { .. } => (Code::FailedPrecondition, "NOT_ON_NODE"),
            Shortage::NoSuchProfile { .. } => (Code::NotFound, "NO_SUCH_PROFILE"),
            Shortage::TooLarge { .. } => (Code::OutOfRange, "TOO_LARGE"),
            Shortage::NotEnforced { .. } => (Code::FailedPrecondition, "NOT_ENFORCED"),
            Shortage::TooMany { .. } => (Code::OutOfRange, "TOO_MANY"),
            Shortage::NotNow { .. } => (Code::ResourceExhausted, "NO_CAPACITY"),
        };
        let mut failure = Self::of(error, meaning);
        let considered = error.considered.iter();
        failure.causes = considered.map(|verdict| format!("{}: {}", verdict.gpu, verdict.reason)).collect();
        failure
    }
}

impl From<&RequestError> for Failure {
    fn from(error: &RequestError) -> Self {
        let meaning = match error {
            RequestError::Slice(_)
            | RequestError::Gpu(_)
            | RequestError::Name(_)
            | RequestError::Level(_)
            | RequestError::Consumer(_)
            | RequestError::Time
            | RequestError::Nothing
            | RequestError::Several
            | RequestError::ClassName(_)
            | RequestError::NoCompute
            | RequestError::ComputeKind(_)
            | RequestError::Memory
            | RequestError::Compute(_)
            | RequestError::Count(_)
            | RequestError::Reason(_)
            | RequestError::Missing(_) => (Code::InvalidArgument, "BAD_REQUEST"),
            RequestError::NoSuchClass { .. } => (Code::NotFound, "NO_SUCH_CLASS"),
        };
        Self::of(error, meaning)
    }
}

impl From<&LayoutError> for Failure {
    fn from(error: &LayoutError) -> Self {
        let meaning = match error {
            LayoutError::Name(_) => (Code::InvalidArgument, "BAD_REQUEST"),
            LayoutError::None | LayoutError::NoSuch { .. } => (Code::NotFound, "NO_SUCH_LAYOUT"),
            LayoutError::Several { .. } => (Code::InvalidArgument, "SEVERAL_LAYOUTS"),
            LayoutError::Changed(_) => (Code::Aborted, "PLAN_CHANGED"),
        };
        Self::of(error, meaning)
    }
}

impl From<&AccessDenied> for Failure {
    fn from(error: &AccessDenied) -> Self {
        let mut failure = Self::of(error, (Code::PermissionDenied, "ACCESS_DENIED"));
        failure.causes = error.doubts().to_vec();
        failure
    }
}

impl From<&Full> for Failure {
    fn from(error: &Full) -> Self {
        let meaning = match error {
            Full::Connections { .. } => (Code::ResourceExhausted, "TOO_MANY_CONNECTIONS"),
            Full::Calls { .. } => (Code::Unavailable, "BUSY"),
        };
        Self::of(error, meaning)
    }
}

impl From<&Unread> for Failure {
    fn from(error: &Unread) -> Self {
        let meaning = match error {
            Unread::TooLong | Unread::Length { .. } | Unread::NoLength(_) | Unread::Broken(_) => {
                (Code::InvalidArgument, "BAD_REQUEST")
            }
            Unread::Late => (Code::DeadlineExceeded, "BAD_REQUEST"),
        };
        Self::of(error, meaning)
    }
}

impl From<&ConsumerError> for Failure {
    fn from(error: &ConsumerError) -> Self {
        let meaning = match error {
            ConsumerError::Unknown { .. } => (Code::FailedPrecondition, "NO_SUCH_USER"),
            ConsumerError::Database { .. } | ConsumerError::Unanswered { .. } => {
                (Code::Unavailable, "USER_DATABASE")
            }
        };
        Self::of(error, meaning)
    }
}

impl From<&HolderError> for Failure {
    fn from(error: &HolderError) -> Self {
        let meaning = match error {
            HolderError::NoSuchProcess { .. } | HolderError::StartTime { .. } => {
                (Code::FailedPrecondition, "NO_SUCH_PROCESS")
            }
            HolderError::Watch { .. } => (Code::Internal, "CANNOT_WATCH"),
        };
        Self::of(error, meaning)
    }
}

impl From<&ledger::Error> for Failure {
    fn from(error: &ledger::Error) -> Self {
        let meaning = match error {
            ledger::Error::Write { .. } | ledger::Error::Stopped { .. } => (Code::Internal, "LEDGER_STOPPED"),
            ledger::Error::Folder { .. }
            | ledger::Error::Open { .. }
            | ledger::Error::Log { .. }
            | ledger::Error::Read { .. } => (Code::Internal, "LEDGER_UNREADABLE"),
            ledger::Error::Missing { .. } => (Code::NotFound, "LEDGER_MISSING"),
            ledger::Error::Damaged { .. } | ledger::Error::Row { .. } | ledger::Error::Gone { .. } => {
                (Code::DataLoss, "LEDGER_DAMAGED")
            }
            ledger::Error::Foreign { .. } | ledger::Error::Newer { .. } | ledger::Error::Stray { .. } => {
                (Code::FailedPrecondition, "LEDGER_REFUSED")
            }
        };
        Self::of(error, meaning)
    }
}

impl From<&EffectError> for Failure {
    fn from(error: &EffectError) -> Self {
        let meaning = match error {
            EffectError::Device(error) => device(error),
            EffectError::Vfio(vmm::Error::Hold(error)) => held(error),
            EffectError::Vfio(vmm::Error::Node(error)) => node(error),
            EffectError::Vfio(vmm::Error::Isolation(error)) => isolation(error),
            EffectError::Vfio(vmm::Error::Vm(_)) => (Code::Internal, "MICRO_VM"),
            EffectError::Cdi(error) => cdi(error),
            EffectError::NotClean { .. } => (Code::FailedPrecondition, "NOT_CLEAN"),
            EffectError::Process(error) => process(error),
            EffectError::NotRemoved { .. } => (Code::DeadlineExceeded, "CDI_FILE"),
            EffectError::NeverOpened(_) => (Code::FailedPrecondition, "NEVER_OPENED"),
            EffectError::UnseenMemory(_) => (Code::FailedPrecondition, "UNSEEN_MEMORY"),
            EffectError::NoReset(_) => (Code::FailedPrecondition, "NO_RESET"),
            EffectError::Missing(_) => (Code::FailedPrecondition, "INSTANCE_MISSING"),
            EffectError::StillThere(_) => (Code::Internal, "NOT_REMOVED"),
            EffectError::WorkerLost(_) => (Code::Internal, "INTERNAL"),
        };
        Self::of(error, meaning)
    }
}

impl From<&mdev::Error> for Failure {
    fn from(error: &mdev::Error) -> Self {
        Self::of(error, device(error))
    }
}

impl From<&ProcessError> for Failure {
    fn from(error: &ProcessError) -> Self {
        Self::of(error, process(error))
    }
}

const fn process(error: &ProcessError) -> (Code, &'static str) {
    match error {
        ProcessError::Late { .. } => (Code::DeadlineExceeded, "TIMED_OUT"),
        ProcessError::Start { .. }
        | ProcessError::Died { .. }
        | ProcessError::Garbled { .. }
        | ProcessError::Failed { .. } => (Code::Internal, "DEVICE_PROCESS"),
    }
}

fn device(error: &mdev::Error) -> (Code, &'static str) {
    use mdev::Error as E;
    match error {
        E::NoSuchGpu(_) => (Code::NotFound, "NO_SUCH_GPU"),
        E::NotAGpu(..) => (Code::FailedPrecondition, "NOT_A_GPU"),
        E::NoSuchProfile { .. } => (Code::NotFound, "NO_SUCH_PROFILE"),
        E::Unusable { .. } => (Code::FailedPrecondition, "GPU_UNUSABLE"),
        E::Full { .. } => (Code::ResourceExhausted, "NO_CAPACITY"),
        E::NoSuchInstance { .. } => (Code::FailedPrecondition, "INSTANCE_MISSING"),
        E::ReadBack { .. } => (Code::Internal, "READ_BACK"),
        E::OtherVfCount { .. } | E::FixedVfCount { .. } => (Code::FailedPrecondition, "OTHER_VF_COUNT"),
        E::TooManyVfs { .. } => (Code::OutOfRange, "TOO_MANY"),
        E::FewerVfs { .. } => (Code::ResourceExhausted, "FEWER_VFS"),
        E::InUse { .. } => (Code::FailedPrecondition, "IN_USE"),
        E::OtherMdev { .. } => (Code::AlreadyExists, "NAME_TAKEN"),
        E::OtherVgpu { .. } => (Code::AlreadyExists, "NAME_TAKEN"),
        E::VgpuRefused { .. } => (Code::FailedPrecondition, "TYPE_REFUSED"),
        E::DeadVf { .. } => (Code::FailedPrecondition, "VF_UNUSABLE"),
        E::SriovManage { .. } | E::Run { .. } => (Code::Internal, "SRIOV_MANAGE"),
        E::Mig { .. } => (Code::Internal, "MIG"),
        E::Note { .. } => (Code::Internal, "NOTES"),
        E::NoVfioDriver { .. } => (Code::FailedPrecondition, "MODULE_MISSING"),
        E::WrongName { .. } => (Code::Internal, "INTERNAL"),
        E::TimedOut(_) => (Code::DeadlineExceeded, "TIMED_OUT"),
        E::NoAnswer(_) => (Code::Unavailable, "DEVICE_SILENT"),
        E::Read { .. } | E::Content { .. } => (Code::Internal, "SYSFS_READ"),
        E::Write { .. } => (Code::Internal, "SYSFS_WRITE"),
        E::Undo { .. } => (Code::Internal, "HALF_DONE"),
        E::Events(_) => (Code::Internal, "NO_EVENTS"),
    }
}

fn held(error: &HoldError) -> (Code, &'static str) {
    match error {
        HoldError::Held { .. } | HoldError::HeldUnseen { .. } | HoldError::StillHeld { .. } => {
            (Code::FailedPrecondition, "IN_USE")
        }
        HoldError::Vanished { .. } => (Code::Unavailable, "NODE_VANISHED"),
        HoldError::NoNode => (Code::FailedPrecondition, "NO_NODE"),
        HoldError::Proc { .. } | HoldError::Trial { .. } | HoldError::Lookout { .. } => {
            (Code::Internal, "CANNOT_PROVE_FREE")
        }
    }
}

fn node(error: &NodeError) -> (Code, &'static str) {
    match error {
        NodeError::None | NodeError::NoGroup | NodeError::NoCdev => (Code::FailedPrecondition, "NO_NODE"),
        NodeError::Vanished { .. } => (Code::Unavailable, "NODE_VANISHED"),
        NodeError::NotVfio { .. }
        | NodeError::NotADevice { .. }
        | NodeError::Look { .. }
        | NodeError::Grant { .. }
        | NodeError::Overruled { .. } => (Code::Internal, "NODE_UNUSABLE"),
    }
}

fn isolation(error: &IsolationError) -> (Code, &'static str) {
    match error {
        IsolationError::NoIommu { .. } | IsolationError::NoIommuMode { .. } => {
            (Code::FailedPrecondition, "NO_IOMMU")
        }
        IsolationError::NoGroup { .. } => (Code::FailedPrecondition, "NO_IOMMU_GROUP"),
        IsolationError::Strangers { .. } | IsolationError::PhysicalFunction { .. } => {
            (Code::FailedPrecondition, "NOT_ISOLATED")
        }
        IsolationError::Device(error) => device(error),
    }
}

fn cdi(error: &cdi::Error) -> (Code, &'static str) {
    match error {
        cdi::Error::Kind { .. } | cdi::Error::Device { .. } | cdi::Error::Node { .. } => {
            (Code::FailedPrecondition, "CDI_NAME")
        }
        cdi::Error::Folder { .. }
        | cdi::Error::OpenFolder { .. }
        | cdi::Error::Write { .. }
        | cdi::Error::Remove { .. } => (Code::Internal, "CDI_FILE"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// vgpuctl's exit code follows from it: 1, as for a slice in use.
    #[test]
    fn a_busy_slice_is_a_refusal_by_its_present_state() {
        let busy = Rejected::Busy { slice: crate::engine::SliceId::new(1), phase: "scrubbing" };
        let failure = Failure::from(&busy);
        assert_eq!((failure.code, failure.reason), (Code::Aborted, "BUSY"));
    }

    #[test]
    fn a_failure_carries_its_chain_with_the_names_of_system_errors() {
        let error = mdev::Error::Write {
            path: "/sys/bus/pci/devices/0000:41:00.0/sriov_numvfs".into(),
            value: "8".to_owned(),
            hint: String::new(),
            source: io::Error::from_raw_os_error(5),
        };
        let failure = Failure::from(&EffectError::Device(error)).within("Could not create it".to_owned());
        assert_eq!((failure.code, failure.reason), (Code::Internal, "SYSFS_WRITE"));
        assert_eq!(failure.causes[1], "Input/output error (EIO)");
        let status = Status::from(failure.clone());
        let sent = api::Failure::decode(status.details()).unwrap();
        assert_eq!((sent.reason.as_str(), sent.message), (failure.reason, failure.message));
        assert_eq!(sent.causes, failure.causes);
    }
}
