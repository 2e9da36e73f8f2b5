//! Inputs that look like those of a corpus, and are not.

use proptest::{prelude::*, sample::Index};

/// Longest input, in bytes.
const LONGEST: usize = 16 << 10;

/// What readers stumble over.
const AWKWARD: [&[u8]; 24] = [
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\"",
    b"'",
    b"=",
    b"--",
    b"/",
    b"..",
    b"+1",
    b"-1",
    b"0",
    b"65536",
    b"4294967296",
    b"18446744073709551615",
    b"9223372036854775808",
    b"1e400",
    b"\xff\xfe",
    b"\x1b[2J",
    "\u{202e}\u{a0}é".as_bytes(),
    &[b'A'; 2000],
];

/// One change of an input.
#[derive(Clone, Debug)]
enum Change {
    Flip {
        at: Index,
        bits: u8,
    },
    Remove {
        at: Index,
        length: usize,
    },
    Insert {
        at: Index,
        what: usize,
    },
    /// Of a file of the corpus.
    Splice {
        at: Index,
        over: usize,
        file: Index,
        from: Index,
        length: usize,
    },
    Repeat {
        from: Index,
        length: usize,
        times: usize,
    },
    Cut {
        at: Index,
    },
}

impl Change {
    fn apply(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        // Behind the last byte too.
        let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Flip { at, bits } => {
                if !input.is_empty() {
                    let at = at.index(input.len());
                    input[at] ^= bits;
                }
            }
            Self::Remove { at, length } => {
                let at = place(at, input);
                input.drain(at..input.len().min(at + length));
            }
            Self::Insert { at, what } => {
                let at = place(at, input);
                input.splice(at..at, AWKWARD[*what].iter().copied());
            }
            Self::Splice { at, over, file, from, length } => {
                let file = file.get(corpus);
                let from = place(from, file);
                let piece = &file[from..file.len().min(from + length)];
                let at = place(at, input);
                input.splice(at..input.len().min(at + over), piece.iter().copied());
            }
            Self::Repeat { from, length, times } => {
                let from = place(from, input);
                let piece = input[from..input.len().min(from + length)].repeat(*times);
                input.splice(from..from, piece);
            }
            Self::Cut { at } => input.truncate(place(at, input)),
        }
        input.truncate(LONGEST);
    }
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, bits)| Change::Flip { at, bits }),
        (index(), 1..40_usize).prop_map(|(at, length)| Change::Remove { at, length }),
        (index(), 0..AWKWARD.len()).prop_map(|(at, what)| Change::Insert { at, what }),
        (index(), 0..40_usize, index(), index(), 1..60_usize)
            .prop_map(|(at, over, file, from, length)| Change::Splice { at, over, file, from, length }),
        (index(), 1..60_usize, 1..200_usize).prop_map(|(from, length, times)| Change::Repeat {
            from,
            length,
            times
        }),
        index().prop_map(|at| Change::Cut { at }),
    ]
}

/// A file of the corpus with up to eight changes.
pub fn of(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), prop::collection::vec(change(), 0..8)).prop_map(move |(file, changes)| {
        let mut input = file.get(&corpus).clone();
        changes.iter().for_each(|change| change.apply(&mut input, &corpus));
        input
    })
}
