//! Why a GPU was chosen or not, in words.

use super::{Best, Choice, Cost, GpuView, Rank, Request, Round, Search, eligible, refusal::Lack, size};
use std::fmt;
use vgpud_config::{Memory, PciAddress, ProfileName};
use vgpud_mdev::{Profile, mechanism};

/// The verdict on one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consideration {
    pub gpu: PciAddress,
    pub verdict: Verdict,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Chosen,
    NotChosen,
}

/// The first difference between two ranks: what decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Node,
    Size,
    Neighbours,
    Stranded,
    Loss,
    Room,
    Address,
}

impl Decided {
    fn between(one: &Rank<Cost>, other: &Rank<Cost>) -> Self {
        if one.elsewhere != other.elsewhere {
            Self::Node
        } else if one.cost.size != other.cost.size {
            Self::Size
        } else if one.cost.neighbours != other.cost.neighbours {
            Self::Neighbours
        } else if one.cost.stranded != other.cost.stranded {
            Self::Stranded
        } else if one.cost.lost != other.cost.lost {
            Self::Loss
        } else if one.cost.left != other.cost.left {
            Self::Room
        } else {
            Self::Address
        }
    }
}

/// A verdict on every GPU, in their order.
pub(super) fn consider(request: &Request, gpus: &[GpuView], search: &Search<Cost>) -> Vec<Consideration> {
    let story = Story { request, gpus, search };
    gpus.iter()
        .map(|gpu| {
            let here: Vec<_> =
                search.rounds.iter().filter(|round| round.choice.gpu == gpu.address()).collect();
            let (verdict, reason) = match here.first() {
                Some(first) if search.is_complete() => (Verdict::Chosen, story.why(first, &here)),
                _ => (Verdict::NotChosen, story.why_not(gpu)),
            };
            Consideration { gpu: gpu.address(), verdict, reason }
        })
        .collect()
}

struct Story<'a> {
    request: &'a Request,
    gpus: &'a [GpuView],
    search: &'a Search<Cost>,
}

impl Story<'_> {
    fn why(&self, first: &Round<Cost>, here: &[&Round<Cost>]) -> String {
        let mut counts: Vec<(&ProfileName, usize)> = Vec::new();
        for name in here.iter().map(|round| &round.choice.profile.name) {
            match counts.iter_mut().find(|(counted, _)| *counted == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
        }
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} of {name}")).collect();
        let chosen = format!("{}, the smallest that fits", counts.join(" and "));
        let Some((other, rank)) = &first.next else { return chosen };
        let why = match Decided::between(&first.rank, rank) {
            Decided::Node => "on the NUMA node that was asked for".to_owned(),
            Decided::Size => format!("that of {other} is larger"),
            Decided::Neighbours => format!("has fewer slices than {other}"),
            Decided::Stranded => {
                format!("{other} would leave {} that no profile fits", Memory::from_bytes(rank.cost.stranded))
            }
            Decided::Loss if self.is_whole(*other) => format!("keeps {other} whole"),
            Decided::Loss => format!("keeps more of what {other} can serve"),
            Decided::Room => format!("fuller than {other}"),
            Decided::Address => format!("comes before {other}, which is as good"),
        };
        format!("{chosen}; {why}")
    }

    fn why_not(&self, gpu: &GpuView) -> String {
        if let Some(why) = self.out_of_question(gpu) {
            return why;
        }
        let wants = |profile: &&Profile| self.request.want.accepts(profile);
        let accepted: Vec<&Profile> = gpu.profiles.iter().filter(wants).collect();
        let Some(smallest) = accepted.iter().min_by_key(|profile| size(profile)) else {
            return self.nothing_satisfies(gpu);
        };
        let available = accepted.iter().map(|profile| profile.available).max().unwrap_or(0);
        if available == 0 {
            return format!("no room is left for {}", smallest.name);
        }
        if !self.search.is_complete() {
            return format!("has room for {available}, which is not enough");
        }
        let best = self.search.best.iter().find(|(address, _)| *address == gpu.address());
        match (best.and_then(|(_, best)| best.as_ref()), self.search.rounds.last()) {
            (Some(best), Some(last)) => self.preferred(&last.choice, &last.rank, gpu, best),
            _ => "another GPU fits better".to_owned(),
        }
    }

    /// Why it lost to the last place that was chosen: what it offers has not changed meanwhile.
    fn preferred(&self, choice: &Choice, rank: &Rank<Cost>, gpu: &GpuView, best: &Best<Cost>) -> String {
        let other = choice.gpu;
        match Decided::between(rank, &best.rank) {
            Decided::Node => self.on_node(gpu, "was asked for"),
            Decided::Size => {
                let smallest = Sized(&gpu.profiles[best.which]);
                format!("the smallest that fits is {smallest}; {other} has {}", Sized(&choice.profile))
            }
            Decided::Neighbours => format!("has more slices than {other}"),
            Decided::Stranded => {
                let stranded = Memory::from_bytes(best.rank.cost.stranded);
                format!("would leave {stranded} that no profile fits")
            }
            Decided::Loss if self.is_whole(gpu.address()) => format!("{other} will do, so it stays whole"),
            Decided::Loss => format!("would lose more of what it can serve than {other}"),
            Decided::Room => format!("{other} is fuller, and this one may become empty"),
            Decided::Address => format!("as good as {other}, which comes first by address"),
        }
    }

    /// Why it was no candidate whatever it offers.
    fn out_of_question(&self, gpu: &GpuView) -> Option<String> {
        if let Err(why) = &gpu.mechanism {
            return Some(why.clone());
        }
        if let Some(asked) = self.request.gpu.filter(|asked| *asked != gpu.address()) {
            return Some(format!("{asked} was asked for"));
        }
        (!eligible(self.request, gpu)).then(|| self.on_node(gpu, "is required"))
    }

    fn nothing_satisfies(&self, gpu: &GpuView) -> String {
        let want = &self.request.want;
        if gpu.when_empty.iter().any(|profile| want.accepts(profile)) {
            let present: Vec<_> = gpu.profiles.iter().map(|profile| profile.name.to_string()).collect();
            return format!(
                "it is cut into {} now, and can be cut otherwise when it is empty",
                present.join(", ")
            );
        }
        Lack::of(gpu, want).told(want)
    }

    fn on_node(&self, gpu: &GpuView, how: &str) -> String {
        let asked = self.request.numa.map(|numa| format!(", {} {how}", numa.node)).unwrap_or_default();
        match gpu.gpu.numa_node {
            Some(node) => format!("on NUMA node {node}{asked}"),
            None => format!("its NUMA node is not known{asked}"),
        }
    }

    /// Whether nothing is cut from it, and nothing will be.
    fn is_whole(&self, address: PciAddress) -> bool {
        let untouched = !self.search.rounds.iter().any(|round| round.choice.gpu == address);
        let whole = |gpu: &GpuView| {
            let divided = gpu.mechanism.as_ref().is_ok_and(|kind| mechanism(*kind).is_divided(&gpu.gpu));
            gpu.taken.is_empty() && !divided
        };
        untouched && self.gpus.iter().any(|gpu| gpu.address() == address && whole(gpu))
    }
}

/// A profile with its size: `vf-8 (16MiB)`.
struct Sized<'a>(&'a Profile);

impl fmt::Display for Sized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.name)?;
        match (self.0.memory, self.0.compute) {
            (Some(memory), Some(compute)) => write!(f, " ({memory}, {compute})"),
            (Some(memory), None) => write!(f, " ({memory})"),
            (None, Some(compute)) => write!(f, " ({compute})"),
            (None, None) => write!(f, " (of a size that the device does not say)"),
        }
    }
}
