use std::time::Duration;

use super::*;

#[test]
fn answers() {
    assert_eq!(Answer::parse("READY").unwrap(), Answer::Ready);
    assert_eq!(
        Answer::parse("FAILED module x did not load; ").unwrap(),
        Answer::Failed("module x did not load;".to_owned())
    );
    assert_eq!(Answer::parse("DONE 7 137").unwrap(), Answer::Done { id: 7, code: 137 });
    for bad in ["", "READY now", "DONE", "DONE 7", "DONE x 1", "DONE 1 x", "DONE 1 2 3", "HELLO"] {
        assert!(matches!(Answer::parse(bad), Err(Error::Protocol { .. })), "{bad}");
    }
}

#[test]
fn orders_are_two_words() {
    assert_eq!(Order::Run(3).to_string(), "RUN 3");
    assert_eq!(Order::Kill(3).to_string(), "KILL 3");
    assert_eq!(Order::PowerOff.to_string(), "POWEROFF -");
}

#[test]
fn jobs_end_in_any_order_and_are_told_once() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let agent = Agent::new(ours, Path::new("pair")).unwrap();
    theirs.write_all(b"READY\nDONE 2 0\nDONE 1 3\n").unwrap();
    let wait = |id| {
        crate::wait::poll("an answer", Duration::from_secs(10), || agent.done(id, Duration::from_millis(10)))
            .unwrap()
    };
    assert_eq!(wait(1), 3);
    assert_eq!(wait(2), 0);
    assert_eq!(agent.greeting().unwrap(), Some(Answer::Ready));
    assert_eq!(agent.done(1, Duration::ZERO).unwrap(), None);
}

#[test]
fn a_line_that_is_no_answer_breaks_the_channel() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let agent = Agent::new(ours, Path::new("pair")).unwrap();
    theirs.write_all(b"READY\nKernel panic\n").unwrap();
    let error = crate::wait::poll("the error", Duration::from_secs(10), || {
        Ok(agent.done(1, Duration::from_millis(10)).err())
    });
    assert!(matches!(error.unwrap(), Error::Protocol { line } if line == "Kernel panic"));
}
