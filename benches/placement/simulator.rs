//! A fleet that serves a trace.

use crate::trace::{Arrival, asked};
use std::time::{Duration, Instant};
use vgpud::engine::placement::{Choice, Chooser, Emptying, GpuView, Worth, choose};
use vgpud_config::{PciAddress, ProfileName};

/// How a chooser did.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Part of the requests.
    pub accepted: f64,
    /// Part of the memory that was asked for, by those that were accepted.
    pub memory: f64,
    /// Part of the fleet's memory that no slice was asked to have and none could get, on average over time.
    pub stranded: f64,
    /// To find a place for one slice, or that there is none.
    pub each: Duration,
}

struct Served {
    until: f64,
    /// What it has beyond what it asked for is stranded.
    bytes: u64,
    slices: Vec<(PciAddress, ProfileName)>,
}

/// A fleet in use.
struct Simulation {
    gpus: Vec<GpuView>,
    /// The one that goes next last.
    served: Vec<Served>,
    now: f64,
    /// Bytes in all when it is empty.
    memory: u64,
    /// Stranded memory, summed up over time.
    stranded: f64,
}

/// Serves the trace, from an empty fleet.
#[allow(clippy::cast_precision_loss)]
pub fn run<C: Chooser>(fleet: &[GpuView], trace: &[Arrival], chooser: &C) -> Outcome {
    let memory = fleet.iter().map(|gpu| Worth::of(&gpu.when_empty).memory()).sum();
    let mut simulation =
        Simulation { gpus: fleet.to_vec(), served: Vec::new(), now: 0.0, memory, stranded: 0.0 };
    let (mut accepted, mut bytes, mut spent, mut slices) = (0_u32, 0, Duration::ZERO, 0_u32);
    for arrival in trace {
        simulation.go_on_to(arrival.at);
        let start = Instant::now();
        let choices = choose(&arrival.request, &simulation.gpus, chooser);
        spent += start.elapsed();
        slices += arrival.request.count;
        if let Some(choices) = choices {
            accepted += 1;
            bytes += asked(&arrival.request);
            simulation.serve(arrival, choices);
        }
    }
    let wanted: u64 = trace.iter().map(|arrival| asked(&arrival.request)).sum();
    Outcome {
        accepted: f64::from(accepted) / trace.len() as f64,
        memory: bytes as f64 / wanted as f64,
        stranded: simulation.stranded / simulation.now,
        each: spent / slices.max(1),
    }
}

impl Simulation {
    fn serve(&mut self, arrival: &Arrival, choices: Vec<Choice>) {
        let slices: Vec<_> = choices.into_iter().map(|choice| (choice.gpu, choice.profile.name)).collect();
        for (address, profile) in &slices {
            self.gpus.iter_mut().filter(|gpu| gpu.address() == *address).for_each(|gpu| gpu.take(profile));
        }
        self.served.push(Served { until: arrival.until, bytes: asked(&arrival.request), slices });
        self.served.sort_by(|one, other| other.until.total_cmp(&one.until));
    }

    /// Whoever is to go until then goes.
    fn go_on_to(&mut self, at: f64) {
        while let Some(until) = self.served.last().map(|next| next.until).filter(|until| *until <= at) {
            self.pass(until);
            for (address, profile) in self.served.pop().map(|gone| gone.slices).unwrap_or_default() {
                let gpu = self.gpus.iter_mut().find(|gpu| gpu.address() == address);
                gpu.into_iter().for_each(|gpu| give_back(gpu, &profile));
            }
        }
        self.pass(at);
    }

    #[allow(clippy::cast_precision_loss)]
    fn pass(&mut self, until: f64) {
        let in_use: u64 = self.served.iter().map(|served| served.bytes).sum();
        let free: u64 = self.gpus.iter().map(|gpu| Worth::of(&gpu.profiles).memory()).sum();
        let stranded = self.memory.saturating_sub(in_use).saturating_sub(free);
        self.stranded += stranded as f64 / self.memory as f64 * (until - self.now);
        self.now = until;
    }
}

fn give_back(gpu: &mut GpuView, profile: &ProfileName) {
    let mut taken = gpu.taken.clone();
    if let Some(index) = taken.iter().position(|taken| taken.profile == *profile) {
        taken.swap_remove(index);
    }
    *gpu = GpuView::new(gpu.gpu.clone(), gpu.mechanism.clone(), taken, Emptying::BySlices);
}
