//! The ids under which a build's story is told to a tracing system. They follow from the ids in the store, so that what is told twice is the
//! same, and so that a step can be told its own while nobody has told of it yet.

use crate::{BuildId, RequestId, StepId};
use sha2::{Digest, Sha256};
use std::fmt;

/// Whose ids they are: two installations may tell the same system, and a restored one gives out numbers of a lost time again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    pub installation: &'a str,
    pub epoch: i64,
}

/// A trace: one request, from the wish to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Request(RequestId),
    /// What a build waited before it had a worker.
    Wait(BuildId),
    /// What a request waited that never had a build.
    WaitInVain(RequestId),
    /// How a build's worker came.
    Boot(BuildId),
    Build(BuildId),
    Step(StepId),
}

impl Origin<'_> {
    #[must_use]
    pub fn trace(self, request: RequestId) -> TraceId {
        TraceId(self.hashed("trace", request.0))
    }

    #[must_use]
    pub fn span(self, part: Part) -> SpanId {
        SpanId(match part {
            Part::Request(id) => self.hashed("request", id.0),
            Part::Wait(id) => self.hashed("wait", id.0),
            Part::WaitInVain(id) => self.hashed("wait-in-vain", id.0),
            Part::Boot(id) => self.hashed("boot", id.0),
            Part::Build(id) => self.hashed("build", id.0),
            Part::Step(id) => self.hashed("step", id.0),
        })
    }

    /// What a step's commands find as `TRACEPARENT` (W3C Trace Context): spans of their own belong below the step's.
    #[must_use]
    pub fn traceparent(self, request: RequestId, step: StepId) -> String {
        format!("00-{}-{}-01", self.trace(request), self.span(Part::Step(step)))
    }

    /// Never all zeros, which stands for no id.
    fn hashed<const N: usize>(self, kind: &str, id: i64) -> [u8; N] {
        let Origin { installation, epoch } = self;
        let hash = Sha256::digest(format!("rouse/{installation}/{epoch}/{kind}/{id}"));
        let mut taken = [0; N];
        taken.iter_mut().zip(hash.iter()).for_each(|(to, from)| *to = *from);
        if taken.iter().all(|byte| *byte == 0) {
            taken[N - 1] = 1;
        }
        taken
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Origin<'static> = Origin { installation: "0123", epoch: 1 };

    #[test]
    fn ids_follow_from_what_they_are_of_and_from_nothing_else() {
        // They stand in the stores of others: another version must not change them.
        assert_eq!(HERE.trace(RequestId(7)).to_string(), "6f59e7ce404e0999d3534a2a0ac53595");
        assert_eq!(HERE.span(Part::Step(StepId(7))).to_string(), "c5fc60600b68623c");
        let parts = [
            Part::Request(RequestId(7)),
            Part::Wait(BuildId(7)),
            Part::WaitInVain(RequestId(7)),
            Part::Boot(BuildId(7)),
            Part::Build(BuildId(7)),
            Part::Build(BuildId(8)),
            Part::Step(StepId(7)),
        ];
        let mut ids: Vec<SpanId> = parts.into_iter().map(|part| HERE.span(part)).collect();
        for other in [Origin { epoch: 2, ..HERE }, Origin { installation: "0124", ..HERE }] {
            assert_ne!(other.trace(RequestId(7)), HERE.trace(RequestId(7)));
            ids.extend(parts.into_iter().map(|part| other.span(part)));
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn a_step_is_told_its_span_as_the_w3c_writes_it() {
        let told = HERE.traceparent(RequestId(7), StepId(9));
        let parts: Vec<&str> = told.split('-').collect();
        let span = HERE.span(Part::Step(StepId(9))).to_string();
        assert_eq!(parts, ["00", HERE.trace(RequestId(7)).to_string().as_str(), span.as_str(), "01"]);
        assert_eq!((parts[1].len(), parts[2].len()), (32, 16));
    }
}
