//! Questions to another process of vgpud's own, and its answers: JSON, one to a line, on a socket that is that
//! process's standard input. It ends when that is closed.
//!
//! Each question has a number and, in that process, a thread of its own, for what is done for it can hang: nobody
//! waits for anybody else's answer.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The process has ended, or does not listen.
    Gone(io::Error),
    Late,
}

/// Something said, and which question it belongs to.
#[derive(Serialize, Deserialize)]
struct Message<T> {
    number: u64,
    content: T,
}

/// The asking side.
#[derive(Debug)]
pub struct Dialogue<A> {
    questions: Mutex<UnixStream>,
    asked: Arc<Mutex<Asked<A>>>,
}

/// Who waits for which answer.
#[derive(Debug)]
struct Asked<A> {
    last: u64,
    waiting: BTreeMap<u64, mpsc::Sender<A>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A: DeserializeOwned + Send + 'static> Dialogue<A> {
    /// Over this end of the socket. A question is taken within `patience`, or the process counts as gone.
    ///
    /// # Errors
    /// Where the socket takes no deadline.
    pub fn on(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(patience))?;
        let asked = Asked { last: 0, waiting: BTreeMap::new() };
        Ok(Self { questions: Mutex::new(stream), asked: Arc::new(Mutex::new(asked)) })
    }

    /// Takes answers from now on, on a thread of its own, which the daemon may not have when it starts
    /// the process. `at_end` is called when the process has ended.
    ///
    /// # Errors
    /// Where there is no thread.
    pub fn listen(&self, name: &str, at_end: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (asked, answers) = (Arc::clone(&self.asked), lock(&self.questions).try_clone()?);
        let of = name.to_owned();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            read(&of, &asked, answers);
            at_end();
        })?;
        Ok(())
    }

    /// Asks, and waits for the answer for so long.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn ask(&self, question: impl Serialize, within: Duration) -> Result<A, NoAnswer> {
        let (sender, answer) = mpsc::channel();
        let number = {
            let mut asked = lock(&self.asked);
            asked.last += 1;
            let number = asked.last;
            asked.waiting.insert(number, sender);
            number
        };
        let said = say(&mut lock(&self.questions), &Message { number, content: question });
        let answer = said.map_err(NoAnswer::Gone).and_then(|()| {
            answer.recv_timeout(within).map_err(|error| match error {
                RecvTimeoutError::Timeout => NoAnswer::Late,
                RecvTimeoutError::Disconnected => NoAnswer::Gone(io::ErrorKind::UnexpectedEof.into()),
            })
        });
        lock(&self.asked).waiting.remove(&number);
        answer
    }

    #[cfg(test)]
    pub(crate) fn hang_up(&self) {
        lock(&self.questions).shutdown(std::net::Shutdown::Both).unwrap();
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.asked).waiting.len()
    }
}

/// Hands each answer to who waits for it, until there are no more. One that came too late is dropped.
fn read<A: DeserializeOwned>(name: &str, asked: &Mutex<Asked<A>>, answers: UnixStream) {
    for line in BufReader::new(answers).lines() {
        let answer = line.and_then(|line| Ok(serde_json::from_str(&line)?));
        let Message { number, content } = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "{name} does not answer any more");
                break;
            }
        };
        if let Some(waiting) = lock(asked).waiting.remove(&number) {
            // Gone: nobody waits any more.
            let _ = waiting.send(content);
        }
    }
    lock(asked).waiting.clear();
}

fn say(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// In the other process: answers until nobody asks any more, `most` questions at a time. What `too_many` says
/// is the answer to one more.
///
/// # Errors
/// Where a question cannot be read, or has no thread.
pub fn serve<Q, A>(
    stream: UnixStream,
    most: usize,
    too_many: impl Fn() -> A,
    answer: impl Fn(Q) -> A + Clone + Send + 'static,
) -> io::Result<()>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize,
{
    let answers = Arc::new(Mutex::new(stream.try_clone()?));
    for line in BufReader::new(stream).lines() {
        let Message { number, content } = serde_json::from_str::<Message<Q>>(&line?)?;
        // Each thread has one.
        if Arc::strong_count(&answers) > most {
            say(&mut lock(&answers), &Message { number, content: too_many() })?;
            continue;
        }
        let (answers, answer) = (Arc::clone(&answers), answer.clone());
        thread::Builder::new().spawn(move || {
            let content = answer(content);
            // Nobody takes it: the daemon is gone, and so is the next question.
            let _ = say(&mut lock(&answers), &Message { number, content });
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn pair() -> (Dialogue<String>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let dialogue = Dialogue::on(ours, PATIENCE).unwrap();
        dialogue.listen("test", || {}).unwrap();
        (dialogue, theirs)
    }

    #[test]
    fn each_gets_the_answer_to_its_own_question_in_whatever_order_they_come() {
        let (dialogue, theirs) = pair();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut theirs = theirs;
                let questions: Vec<Message<u32>> = BufReader::new(theirs.try_clone().unwrap())
                    .lines()
                    .take(2)
                    .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
                    .collect();
                say(&mut theirs, &Message { number: 99, content: "late" }).unwrap();
                for Message { number, content } in questions.into_iter().rev() {
                    say(&mut theirs, &Message { number, content: content.to_string() }).unwrap();
                }
            });
            for question in [5, 6] {
                let dialogue = &dialogue;
                scope.spawn(move || {
                    assert_eq!(dialogue.ask(question, PATIENCE).unwrap(), question.to_string());
                });
            }
        });
    }

    #[test]
    fn who_is_gone_or_silent_gives_no_answer() {
        let (dialogue, theirs) = pair();
        assert!(matches!(dialogue.ask(1, Duration::from_millis(1)), Err(NoAnswer::Late)));
        assert_eq!(dialogue.waiting(), 0);
        drop(theirs);
        for _ in 0..2 {
            assert!(matches!(dialogue.ask(1, PATIENCE), Err(NoAnswer::Gone(_))));
        }
    }

    #[test]
    fn a_question_that_hangs_keeps_no_other_and_so_many_are_taken() {
        let (dialogue, theirs) = pair();
        let (open, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let answer = move |question: u32| {
            if question == 0 {
                let _ = lock(&gate).recv();
            }
            question.to_string()
        };
        let serving = thread::spawn(move || serve(theirs, 2, || "too many".to_owned(), answer));
        // The thread of an answer that has come may not have ended yet.
        let hang = || {
            vgpud_mdev::wait::until("a question to be taken", PATIENCE, || {
                let answer = dialogue.ask(0, PATIENCE).unwrap();
                Ok::<_, vgpud_mdev::wait::TimedOut>((answer != "too many").then_some(answer))
            })
        };
        thread::scope(|scope| {
            let hangs = || scope.spawn(|| hang().unwrap());
            let first = hangs();
            vgpud_mdev::wait::until("the first to hang", PATIENCE, || {
                Ok::<_, vgpud_mdev::wait::TimedOut>((dialogue.waiting() == 1).then_some(()))
            })
            .unwrap();
            assert_eq!(dialogue.ask(7, PATIENCE).unwrap(), "7");
            let second = hangs();
            vgpud_mdev::wait::until("no more to be taken", PATIENCE, || {
                let answer = dialogue.ask(8, PATIENCE).unwrap();
                Ok::<_, vgpud_mdev::wait::TimedOut>((answer == "too many").then_some(()))
            })
            .unwrap();
            drop(open);
            assert_eq!((first.join().unwrap(), second.join().unwrap()), ("0".to_owned(), "0".to_owned()));
        });
        dialogue.hang_up();
        serving.join().unwrap().unwrap();
    }
}
