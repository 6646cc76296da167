//! Test reports in JUnit's form, as far as the many programs that write it agree.
//!
//! A report comes from a build, and so from anybody: it is read in one pass without recursion, entities that it declares itself mean nothing, and
//! what is kept of it is bounded.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use rouse_model::test_report::TestOutcome;
use std::time::Duration;

/// What is kept of a report.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tests that did not pass; the others are counted only.
    pub results: usize,
    /// Of a suite's and of a test's name, in bytes.
    pub name: usize,
    /// In bytes.
    pub message: usize,
    /// Suites within suites.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { results: 1_000, name: 500, message: 2_000, depth: 64 }
    }
}

/// One report.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub total: u64,
    /// Errors among them.
    pub failed: u64,
    pub skipped: u64,
    /// What the tests say that they took, together.
    pub duration: Duration,
    /// Those that did not pass, in the report's order; the failures of more than are kept.
    pub results: Vec<TestCase>,
}

/// One test that did not pass.
#[derive(Debug, PartialEq, Eq)]
pub struct TestCase {
    /// The class, or else the suite.
    pub suite: String,
    pub name: String,
    pub outcome: TestOutcome,
    pub duration: Option<Duration>,
    pub message: String,
}

/// Why a file is no report.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct JunitError {
    pub line: usize,
    pub what: String,
}

impl Report {
    /// Reads one.
    ///
    /// # Errors
    /// Where it is not XML, ends in the middle, or has no suite in it.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, JunitError> {
        let text = String::from_utf8_lossy(bytes);
        let mut reader = Reader::from_str(&text);
        reader.config_mut().expand_empty_elements = true;
        let mut reading =
            Reading { limits, report: Self::default(), suites: Vec::new(), case: None, seen: false };
        let fault = |at: u64, what: String| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            JunitError { line, what }
        };
        let mut open = 0_usize;
        loop {
            let event =
                reader.read_event().map_err(|error| fault(reader.error_position(), error.to_string()))?;
            match event {
                Event::Start(tag) => {
                    open += 1;
                    reading.start(&tag).map_err(|what| fault(reader.buffer_position(), what))?;
                }
                Event::End(tag) => {
                    open = open.saturating_sub(1);
                    reading.end(tag.local_name().as_ref());
                }
                Event::Text(text) => reading.text(&text.decode().unwrap_or_default()),
                Event::CData(text) => reading.text(&text.decode().unwrap_or_default()),
                Event::GeneralRef(name) => {
                    let known = name.resolve_char_ref().ok().flatten().map(String::from);
                    let name = name.decode().unwrap_or_default();
                    let known =
                        known.or_else(|| quick_xml::escape::resolve_xml_entity(&name).map(str::to_owned));
                    reading.text(&known.unwrap_or_else(|| format!("&{name};")));
                }
                Event::Eof => break,
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        if open > 0 {
            return Err(fault(reader.buffer_position(), "the file ends in the middle".into()));
        }
        if !reading.seen {
            return Err(fault(reader.buffer_position(), "there is no `testsuite` in it".into()));
        }
        Ok(reading.report)
    }
}

/// Where one is in a report.
struct Reading<'a> {
    limits: &'a Limits,
    report: Report,
    /// Names, outermost first.
    suites: Vec<String>,
    case: Option<Open>,
    seen: bool,
}

/// A test whose end is still to come.
struct Open {
    case: TestCase,
    /// Within what tells of its trouble, and nothing is known of it yet.
    tells: bool,
}

impl Reading<'_> {
    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        let outcome = match tag.local_name().as_ref() {
            b"testsuites" | b"testrun" => {
                self.seen = true;
                return Ok(());
            }
            b"testsuite" => {
                self.seen = true;
                if self.suites.len() >= self.limits.depth {
                    return Err(format!("more than {} suites within each other", self.limits.depth));
                }
                self.suites.push(cut(&attribute(tag, "name").unwrap_or_default(), self.limits.name));
                return Ok(());
            }
            b"testcase" => {
                let class = attribute(tag, "classname").filter(|class| !class.is_empty());
                let suite = class.or_else(|| self.suites.last().cloned()).unwrap_or_default();
                let case = TestCase {
                    suite: cut(&suite, self.limits.name),
                    name: cut(&attribute(tag, "name").unwrap_or_default(), self.limits.name),
                    outcome: TestOutcome::Passed,
                    duration: attribute(tag, "time").and_then(|time| seconds(&time)),
                    message: String::new(),
                };
                self.case = Some(Open { case, tells: false });
                return Ok(());
            }
            b"failure" => TestOutcome::Failed,
            b"error" => TestOutcome::Error,
            b"skipped" => TestOutcome::Skipped,
            _ => return Ok(()),
        };
        // Outside a test it is a suite's own, which counts none.
        let Some(open) = &mut self.case else { return Ok(()) };
        if outcome > open.case.outcome {
            open.case.outcome = outcome;
            open.case.message =
                cut(attribute(tag, "message").unwrap_or_default().trim(), self.limits.message);
            open.tells = open.case.message.is_empty();
        }
        Ok(())
    }

    fn end(&mut self, tag: &[u8]) {
        match tag {
            b"testsuite" => {
                self.suites.pop();
            }
            b"failure" | b"error" | b"skipped" => {
                if let Some(open) = &mut self.case {
                    open.tells = false;
                }
            }
            b"testcase" => {
                let Some(Open { mut case, .. }) = self.case.take() else { return };
                let report = &mut self.report;
                report.total += 1;
                report.failed += u64::from(case.outcome.is_failure());
                report.skipped += u64::from(case.outcome == TestOutcome::Skipped);
                report.duration = report.duration.saturating_add(case.duration.unwrap_or_default());
                if case.outcome == TestOutcome::Passed {
                    return;
                }
                case.message = case.message.trim().to_owned();
                let full = report.results.len() >= self.limits.results;
                // A failure tells more than a test that was left out.
                let room = full.then(|| report.results.iter().rposition(|kept| kept.outcome < case.outcome));
                match room {
                    None => report.results.push(case),
                    Some(Some(place)) if case.outcome.is_failure() => {
                        report.results.remove(place);
                        report.results.push(case);
                    }
                    Some(_) => {}
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        let Some(open) = self.case.as_mut().filter(|open| open.tells) else { return };
        let message = &mut open.case.message;
        let text = if message.is_empty() { text.trim_start() } else { text };
        message.push_str(&cut(text, self.limits.message.saturating_sub(message.len())));
    }
}

/// The beginning of a text, cut between two characters.
fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

/// An attribute's value; as it stands where what it refers to is unknown.
fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    // Who writes one twice means the first.
    let found = tag.attributes().with_checks(false).flatten().find(|a| a.key.as_ref() == name.as_bytes())?;
    let plain = || String::from_utf8_lossy(&found.value).into_owned();
    Some(found.normalized_value(XmlVersion::Implicit1_0).map_or_else(|_| plain(), |value| value.into_owned()))
}

/// `12.5`, also as `1,234.5`.
fn seconds(text: &str) -> Option<Duration> {
    let number: f64 = text.trim().replace(',', "").parse().ok()?;
    Duration::try_from_secs_f64(number).ok().filter(|time| *time < Duration::from_secs(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Report {
        Report::read(text.as_bytes(), &Limits::default()).unwrap()
    }

    fn lines(report: &Report) -> Vec<String> {
        report
            .results
            .iter()
            .map(|r| format!("{:?} {} · {}: {}", r.outcome, r.suite, r.name, r.message))
            .collect()
    }

    #[test]
    fn what_programs_write() {
        let report = read(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE x [<!ENTITY big "bang">]>
<testsuites tests="6">
  <testsuite name="outer">
    <testsuite name="words" time="1,000.5">
      <properties><property name="a" value="b"/></properties>
      <testcase name="splits" time="1,000.25"/>
      <testcase name="joins" classname="words.Join" time="0.25"><failure message="expected 3 &lt; 4">at words.py:7</failure></testcase>
      <testcase name="counts"><error type="KeyError"><![CDATA[
  Traceback
    KeyError]]> &amp;&#65;&big;</error><system-out>much</system-out></testcase>
      <testcase name="later"><skipped/></testcase>
    </testsuite>
    <testcase name="whole"><skipped message="not here"/><failure>both</failure></testcase>
    <error message="the suite's own"/>
  </testsuite>
</testsuites>"#,
        );
        assert_eq!((report.total, report.failed, report.skipped), (5, 3, 1));
        assert_eq!(report.duration, Duration::from_millis(1_000_500));
        assert_eq!(
            lines(&report),
            [
                "Failed words.Join · joins: expected 3 < 4",
                "Error words · counts: Traceback\n    KeyError &A&big;",
                "Skipped words · later: ",
                "Failed outer · whole: both",
            ]
        );
    }

    #[test]
    fn what_is_no_report_says_where() {
        let fails = |text: &str| Report::read(text.as_bytes(), &Limits::default()).unwrap_err().to_string();
        assert_eq!(fails(""), "line 1: there is no `testsuite` in it");
        assert_eq!(fails("<html>\n</html>"), "line 2: there is no `testsuite` in it");
        assert_eq!(fails("<testsuite>\n<testcase>\n"), "line 3: the file ends in the middle");
        let crossed = fails("<testsuite>\n<testcase></testsuite>");
        assert!(crossed.starts_with("line 2: ") && crossed.contains("testcase"), "{crossed}");
        assert_eq!(fails(&"<testsuite>\n".repeat(100_000)), "line 65: more than 64 suites within each other");
    }

    #[test]
    fn of_more_than_is_kept_the_failures_are() {
        let limits = Limits { results: 3, name: 4, message: 5, depth: 2 };
        let case =
            |name: &str, what: &str| format!("<testcase name='{name}'><{what} message='äöüä'/></testcase>");
        let all: String = ["skipped", "skipped", "failure", "failure", "error", "failure", "skipped"]
            .iter()
            .enumerate()
            .map(|(n, what)| case(&format!("test{n}"), what))
            .collect();
        let report = Report::read(format!("<testsuite>{all}</testsuite>").as_bytes(), &limits).unwrap();
        assert_eq!((report.total, report.failed, report.skipped, report.results.len()), (7, 4, 3, 3));
        assert!(
            report.results.iter().all(|r| r.outcome.is_failure() && r.name == "test" && r.message == "äö"),
            "{report:?}"
        );
    }
}
