//! The child: one request, one answer, then the end.

use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;

use super::wire::{self, Task};
use super::{WorkError, fold, sandbox, unfold};

/// Does one piece of work for a [`Folder`](super::Folder), from `input` to `output`. A child process does nothing else.
///
/// Its limits are those that the parent names first; it sets them on its whole process, for good, before it reads more.
/// An address space that is used up ends the process.
pub fn child_main(input: impl Read, output: impl Write) -> ExitCode {
    // A panic's message quotes the document; the place is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            let _ = writeln!(io::stderr(), "panicked at {place}");
        }
    }));
    match serve(input, output, sandbox::enter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the request, calls `enter` with its limits before the rest of it, and answers.
pub(super) fn serve(
    mut input: impl Read,
    output: impl Write,
    enter: impl FnOnce(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    let (task, memory_bytes, cpu_seconds) = wire::read_head(&mut input)?;
    enter(memory_bytes, cpu_seconds)?;
    let request = wire::read_all(&mut input, wire::items_bytes_max() + 4)?;
    let request = request.ok_or_else(|| io::Error::other("the request is too long"))?;
    let items = wire::items(&request).ok_or_else(|| io::Error::other("the request is cut off"))?;
    let mut output = BufWriter::new(output);
    match work(task, &items) {
        Ok(answer) => {
            output.write_all(&[wire::DONE])?;
            answer.iter().try_for_each(|item| wire::write_item(&mut output, item))?;
        }
        Err(error) => {
            output.write_all(&[wire::REFUSED])?;
            wire::write_item(&mut output, error.to_string().as_bytes())?;
        }
    }
    wire::write_end(&mut output)?;
    output.flush()
}

fn work(task: Task, items: &[&[u8]]) -> Result<Vec<Vec<u8>>, WorkError> {
    match (task, items) {
        (Task::Fold, changes) => Ok(vec![fold(changes.iter().copied())?.chunk]),
        (Task::Unfold, [chunk]) => unfold(chunk),
        (Task::Unfold, _) => Err(WorkError::Differs("chunks")),
    }
}
