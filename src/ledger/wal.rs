//! The write-ahead log beside the ledger, judged before SQLite reads it.
//!
//! SQLite ends the log at the first frame whose checksum is wrong, and says nothing. After a power
//! loss that is right: only a transaction that nobody was told of can be torn. Where later frames show
//! that the broken one had been acknowledged, it would silently start vgpud from an older state.
//!
//! Each commit is synced before the next one is written (`synchronous=FULL`). So a transaction was
//! acknowledged where another frame was written after its commit frame: in the same generation of the
//! log (its salts), with a checksum that goes on from the commit frame's.
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const VERSION: u32 = 3_007_000;
/// The last bit says whether words are summed in big-endian order.
const MAGIC: u32 = 0x377f_0682;

/// What makes the ledger another one than was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of the log's frames, counted from 1: the first that cannot be read, though later ones were written.
    Damaged {
        frame: usize,
        frames: usize,
    },
    Header,
    /// The file beside it never had a log: it is a copy that was put in place.
    Stray,
}

/// The log of a ledger.
pub fn path(ledger: &Path) -> PathBuf {
    beside(ledger, "-wal")
}

/// A file that SQLite keeps beside a database.
pub fn beside(ledger: &Path, suffix: &str) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Looks for a fault in the log of a ledger; there is none where there is no log.
///
/// Whoever writes meanwhile can be seen half way, but not twice at the same frame: each later frame was
/// written after it.
///
/// # Errors
/// Where the files cannot be read.
pub fn fault(ledger: &Path) -> io::Result<Option<Fault>> {
    let found = look(ledger)?;
    if found.is_none() {
        return Ok(None);
    }
    Ok(look(ledger)?.filter(|again| found.as_ref() == Some(again)))
}

fn look(ledger: &Path) -> io::Result<Option<Fault>> {
    let log = match fs::read(path(ledger)) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !log.is_empty() && never_had_a_log(ledger)? {
        return Ok(Some(Fault::Stray));
    }
    Ok(Log::read(&log).map_or_else(|fault| fault, |log| log.fault()))
}

/// Whether the file's header says that it is not in WAL mode; vgpud's are from their first start on.
fn never_had_a_log(ledger: &Path) -> io::Result<bool> {
    let mut header = Vec::new();
    File::open(ledger)?.take(20).read_to_end(&mut header)?;
    Ok(matches!(header.get(18..20), Some([1, 1])))
}

struct Log<'a> {
    order: Order,
    salts: &'a [u8],
    sum: Sum,
    frames: Vec<&'a [u8]>,
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

/// Two running sums.
type Sum = (u32, u32);

impl<'a> Log<'a> {
    /// An error of none says that there is nothing in it.
    fn read(log: &'a [u8]) -> Result<Self, Option<Fault>> {
        let Some((header, frames)) = log.split_at_checked(HEADER).filter(|(_, frames)| !frames.is_empty())
        else {
            // The header is synced before the first frame: without frames nothing was acknowledged.
            return Err(None);
        };
        let order = match word(header, 0) ^ MAGIC {
            0 => Order::Little,
            1 => Order::Big,
            _ => return Err(Some(Fault::Header)),
        };
        let sum = sum(order, (0, 0), &header[..24]);
        let page = usize::try_from(word(header, 8)).unwrap_or(0);
        if sum != (word(header, 24), word(header, 28))
            || word(header, 4) != VERSION
            || !page.is_power_of_two()
        {
            return Err(Some(Fault::Header));
        }
        let frames = frames.chunks_exact(FRAME_HEADER + page).collect();
        Ok(Self { order, salts: &header[16..24], sum, frames })
    }

    fn fault(&self) -> Option<Fault> {
        let mut sum = self.sum;
        let broken = self.frames.iter().position(|frame| {
            let goes_on = self.goes_on(sum, frame);
            sum = stored_sum(frame);
            !goes_on
        })?;
        let acknowledged = self.frames[broken..].windows(2).any(|pair| {
            let is_commit = word(pair[0], 4) != 0;
            self.is_of_this(pair[0]) && is_commit && self.goes_on(stored_sum(pair[0]), pair[1])
        });
        acknowledged.then_some(Fault::Damaged { frame: broken + 1, frames: self.frames.len() })
    }

    /// Whether a frame is of this generation of the log.
    fn is_of_this(&self, frame: &[u8]) -> bool {
        &frame[8..16] == self.salts
    }

    fn goes_on(&self, before: Sum, frame: &[u8]) -> bool {
        let page = sum(self.order, sum(self.order, before, &frame[..8]), &frame[FRAME_HEADER..]);
        self.is_of_this(frame) && page == stored_sum(frame)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The sums at the end of a frame's header.
fn stored_sum(frame: &[u8]) -> Sum {
    (word(frame, FRAME_HEADER - 8), word(frame, FRAME_HEADER - 4))
}

fn sum(order: Order, before: Sum, bytes: &[u8]) -> Sum {
    bytes.chunks_exact(8).fold(before, |(one, two), chunk| {
        let word = |at| match order {
            Order::Big => word(chunk, at),
            Order::Little => word(chunk, at).swap_bytes(),
        };
        let one = one.wrapping_add(word(0)).wrapping_add(two);
        (one, two.wrapping_add(word(4)).wrapping_add(one))
    })
}
