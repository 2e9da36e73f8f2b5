//! Requests as they come and go.

use rand::{RngExt, SeedableRng};
use rand_xorshift::XorShiftRng;
use vgpud::engine::placement::{ComputeWant, Request, Want};
use vgpud_config::{ComputeKind, ComputeRequest, ComputeShare, Memory};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Every size as often as any other.
    Uniform,
    /// Most are small, few are large.
    SkewedSmall,
    /// The sizes of a few classes, some with a share of compute, some for several slices at once.
    Mixed,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Uniform, Self::SkewedSmall, Self::Mixed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform, 1 to 24GiB",
            Self::SkewedSmall => "skewed small, 1 to 48GiB",
            Self::Mixed => "mixed classes",
        }
    }

    fn request(self, random: &mut XorShiftRng) -> Request {
        let mut compute = None;
        let mut count = 1;
        let gib: u64 = match self {
            Self::Uniform => random.random_range(1..=24),
            Self::SkewedSmall => match random.random_range(0..100) {
                0..75 => random.random_range(1..=4),
                75..93 => random.random_range(5..=12),
                _ => random.random_range(13..=48),
            },
            Self::Mixed => {
                if random.random_range(0..10) == 0 {
                    let request =
                        ComputeRequest { share: ComputeShare::one_of(10), kind: ComputeKind::Guarantee };
                    compute = Some(ComputeWant { request, enforced: false });
                }
                if random.random_range(0..10) == 0 {
                    count = random.random_range(2..=4);
                }
                [1, 2, 2, 4, 4, 6, 8, 8, 12, 16, 24, 40][random.random_range(0..12)]
            }
        };
        let memory = Some(Memory::from_bytes(gib << 30));
        Request { want: Want::Size { memory, compute }, gpu: None, numa: None, count }
    }
}

/// One request, from its arrival on.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: f64,
    /// When it goes, where it was accepted.
    pub until: f64,
    pub request: Request,
}

/// That many arrivals, as a Poisson process; they stay for a time of 1 on average, exponentially
/// distributed. If all were accepted they would ask for `load` of `memory`, in bytes, on average.
#[allow(clippy::cast_precision_loss)]
pub fn trace(kind: Kind, seed: u64, count: u32, load: f64, memory: u64) -> Vec<Arrival> {
    let mut random = XorShiftRng::seed_from_u64(seed);
    let requests: Vec<Request> = (0..count).map(|_| kind.request(&mut random)).collect();
    let each = requests.iter().map(asked).sum::<u64>() as f64 / f64::from(count);
    let rate = load * memory as f64 / each;
    let mut now = 0.0;
    let arrivals = requests.into_iter().map(|request| {
        now += exponential(&mut random) / rate;
        Arrival { at: now, until: now + exponential(&mut random), request }
    });
    arrivals.collect()
}

/// A time of 1 on average.
fn exponential(random: &mut XorShiftRng) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}

/// Bytes that a request asks for.
pub fn asked(request: &Request) -> u64 {
    match &request.want {
        Want::Size { memory: Some(memory), .. } => memory.bytes() * u64::from(request.count),
        _ => 0,
    }
}
