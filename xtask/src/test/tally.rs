//! Counts what passed and what failed, and says so at the end.

/// Results so far. Every case is printed as it is known; failures are named once more at the end.
pub struct Tally {
    filter: Option<String>,
    passed: u64,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Tally {
    pub fn new(filter: Option<&str>) -> Self {
        Self { filter: filter.map(str::to_string), passed: 0, failures: Vec::new(), skips: Vec::new() }
    }

    /// Whether a case of this name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| name.contains(filter))
    }

    pub fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// Runs a check of our own as a case, if it is asked for. A failure shows its text even so.
    pub fn case(&mut self, name: &str, check: impl FnOnce() -> Result<(), String>) {
        match check() {
            Err(why) => self.fail(name, &why),
            Ok(()) if self.wants(name) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Ok(()) => {}
        }
    }

    pub fn fail(&mut self, name: &str, why: &str) {
        println!("test {name} ... FAILED");
        for line in why.lines() {
            println!("    {line}");
        }
        self.failures.push(name.to_string());
    }

    /// Adds what a test binary has counted and printed itself.
    pub fn add(&mut self, passed: u64, failures: impl IntoIterator<Item = String>) {
        self.passed += passed;
        self.failures.extend(failures);
    }

    pub fn skip(&mut self, skips: Vec<String>) {
        self.skips.extend(skips);
    }

    /// Prints the end of the run, its last line alone, and answers whether all is well.
    pub fn close(self) -> bool {
        println!();
        for skip in &self.skips {
            println!("skipped: {skip}");
        }
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        println!("{} passed, {} failed", self.passed, self.failures.len());
        self.failures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_run_and_a_filter_counts_only_its_own() {
        let mut tally = Tally::new(Some("size"));
        tally.case("size", || Ok(()));
        tally.case("other", || Ok(()));
        assert_eq!((tally.passed, tally.failures.len()), (1, 0));
        tally.case("other", || Err("broken".into()));
        assert!(!tally.close());
    }

    #[test]
    fn skips_alone_do_not_fail_the_run() {
        let mut tally = Tally::new(None);
        tally.skip(vec!["a needs Docker".into()]);
        tally.add(3, []);
        assert!(tally.close());
    }
}
