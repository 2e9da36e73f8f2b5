//! `./x bench placement`: vgpud's placement beside first-fit and best-fit, in a simulation.
//!
//! Each serves the same requests on the same empty fleet, whose cards are those of the catalogue and are
//! cut as vgpud's mechanisms say. All take the smallest profile that satisfies a request on a GPU; they
//! differ in the GPU that they take.

mod fleet;
mod peers;
mod simulator;
mod trace;

use peers::{BestFit, FirstFit};
use simulator::Outcome;
use std::{process::ExitCode, time::Duration};
use trace::Kind;
use vgpud::engine::placement::{Chooser, GpuView, Worth};
use vgpud_config::PlacementStrategy;

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
const GPUS: u8 = 64;
const ARRIVALS: u32 = 2000;

/// Memory asked for on average, as a part of the fleet's: so much that not all is served.
const LOAD: f64 = 0.8;

fn main() -> ExitCode {
    match fleet::fleet(GPUS) {
        Ok(fleet) => report(&fleet),
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn report(fleet: &[GpuView]) {
    println!(
        "{GPUS} GPUs, {ARRIVALS} requests for {:.0}% of their memory, {} seeds, means (least to most):",
        LOAD * 100.0,
        SEEDS.len()
    );
    for kind in Kind::ALL {
        println!("{}", kind.name());
        let ours = serve(fleet, kind, &PlacementStrategy::Pack);
        for (name, peer) in
            [("first-fit", serve(fleet, kind, &FirstFit)), ("best-fit", serve(fleet, kind, &BestFit))]
        {
            println!("  accepted requests, vgpud / {name:9}  {}", ratio(&ours, &peer, |one| one.accepted));
            println!("  accepted memory,   vgpud / {name:9}  {}", ratio(&ours, &peer, |one| one.memory));
            println!("  stranded memory,   vgpud / {name:9}  {}", ratio(&ours, &peer, |one| one.stranded));
        }
        let mean = |figure: fn(&Outcome) -> f64| Spread::of(ours.iter().map(figure));
        println!("  vgpud accepted {} of the requests", mean(|one| one.accepted));
        println!("  vgpud stranded {} of the memory", mean(|one| one.stranded));
        println!("  vgpud took {} ms a slice", mean(|one| seconds(one) * 1e3));
    }
}

/// One outcome a seed.
fn serve<C: Chooser>(fleet: &[GpuView], kind: Kind, chooser: &C) -> Vec<Outcome> {
    let memory: u64 = fleet.iter().map(|gpu| Worth::of(&gpu.when_empty).memory()).sum();
    let one = |seed: &u64| simulator::run(fleet, &trace::trace(kind, *seed, ARRIVALS, LOAD, memory), chooser);
    SEEDS.iter().map(one).collect()
}

fn seconds(outcome: &Outcome) -> f64 {
    Duration::as_secs_f64(&outcome.each)
}

fn ratio(ours: &[Outcome], peer: &[Outcome], figure: fn(&Outcome) -> f64) -> Spread {
    Spread::of(ours.iter().zip(peer).map(|(one, other)| figure(one) / figure(other)))
}

/// A figure over all seeds.
struct Spread {
    mean: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let figures: Vec<f64> = figures.collect();
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            mean: figures.iter().sum::<f64>() / f64::from(u32::try_from(figures.len()).unwrap_or(1)),
            least,
            most,
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.mean, self.least, self.most)
    }
}
