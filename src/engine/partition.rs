//! GPUs whose inside is divided anew. Nothing is on them, and nothing comes on them meanwhile.

use super::{Effect, Note, NoteKind, Partition, Rejected, Transition};

impl Transition {
    pub(super) fn partition(&mut self, partition: Partition) -> Result<(), Rejected> {
        for gpu in &partition.gpus {
            self.state.usable(*gpu)?;
            if let Some(slice) = self.state.slices_of(*gpu).next() {
                return Err(Rejected::NotEmpty { gpu: *gpu, slice: slice.id });
            }
        }
        self.state.partitioning.extend(&partition.gpus);
        self.effects.push(Effect::Partition(partition));
        Ok(())
    }

    pub(super) fn partitioned(&mut self, partition: &Partition) {
        self.end_partitioning(partition, NoteKind::GpuPartitioned, &format!("is set to {}", partition.modes));
    }

    pub(super) fn partition_failed(&mut self, partition: &Partition, why: &str) {
        let message = format!("could not be set to {}: {why}", partition.modes);
        self.end_partitioning(partition, NoteKind::PartitionFailed, &message);
    }

    fn end_partitioning(&mut self, partition: &Partition, kind: NoteKind, what: &str) {
        self.state.partitioning.retain(|gpu| !partition.gpus.contains(gpu));
        for gpu in &partition.asked {
            self.notes.push(Note::gpu(kind, *gpu, format!("GPU {gpu} {what}")));
        }
    }
}
