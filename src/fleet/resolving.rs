//! What images mean: asked of the providers in tasks of their own, so that a slow registry, or one that never answers, holds up nobody
//! but who waits for that image. A pass of the fleet picks up what is there; an answer nudges the next one.
//!
//! Once for each buildset: the answer is kept with the requests, and a later process takes it from there.

use super::Fleet;
use super::breakers::May;
use crate::accounts::Account;
use rouse_contract::{ProviderError, ResolveRequest, Resolved};
use rouse_model::BuildsetId;
use rouse_model::buildset::{Request, SettledImage};
use rouse_model::failure::FailureClass;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How many answers are remembered.
const REMEMBERED: usize = 4_096;
/// Questions under way on one account. Who finds no room asks in a later pass.
const AT_ONCE: usize = 32;
/// Of those, about one image: the others wait for one of these answers, so that a registry that hangs leaves room for what is elsewhere.
const AT_ONCE_ON_ONE: usize = 8;

/// A buildset and what is asked for it: account, images, what else decides.
type Asked = (BuildsetId, String);

/// What this process has asked. Lost with it; what was answered is on record.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: Mutex<HashMap<Asked, Answer>>,
}

#[derive(Debug)]
enum Answer {
    UnderWay {
        account: String,
    },
    Is(Resolved),
    /// `seen`: somebody has been told in this pass; whoever comes in a later one asks anew.
    Not {
        error: ProviderError,
        seen: bool,
    },
}

/// What is known of an image now.
#[derive(Debug)]
pub(super) enum Image {
    UnderWay,
    Is(Resolved),
    Not(ProviderError),
}

/// How a question to one of several accounts is written in a request's record.
pub(super) fn key(accounts: &str, ask: &ResolveRequest) -> String {
    match &ask.tree {
        None => serde_json::json!([accounts, ask.images, ask.options]),
        Some(tree) => serde_json::json!([accounts, ask.images, ask.options, tree]),
    }
    .to_string()
}

impl Answers {
    /// `None` also where another account is being asked, which does not answer any more: else it would still be the one to ask.
    fn look(&self, asked: &Asked, account: &str) -> Option<Image> {
        Some(match self.known.lock().expect("nothing panics while it is held").get_mut(asked)? {
            Answer::UnderWay { account: other } if other != account => return None,
            Answer::UnderWay { .. } => Image::UnderWay,
            Answer::Is(resolved) => Image::Is(resolved.clone()),
            Answer::Not { error, seen } => {
                *seen = true;
                Image::Not(error.clone())
            }
        })
    }

    fn put(&self, asked: Asked, answer: Answer) {
        let mut known = self.known.lock().expect("nothing panics while it is held");
        if known.len() >= REMEMBERED {
            known.retain(|_, answer| !matches!(answer, Answer::Is(_)));
        }
        known.insert(asked, answer);
    }

    /// What an account said, unless another one was asked meanwhile.
    fn end(&self, asked: Asked, account: &str, answer: Answer) {
        let known = self.known.lock().expect("nothing panics while it is held");
        let waits = |answer: &Answer| matches!(answer, Answer::UnderWay { account: a } if a == account);
        if !known.get(&asked).is_some_and(waits) {
            return;
        }
        drop(known);
        self.put(asked, answer);
    }

    /// Takes a place for a question, where there is one.
    fn begin(&self, asked: &Asked, account: &str) -> bool {
        let (mut of_account, mut of_image) = (0, 0);
        for ((_, image), answer) in self.known.lock().expect("nothing panics while it is held").iter() {
            if matches!(answer, Answer::UnderWay { account: a } if a == account) {
                of_account += 1;
                of_image += usize::from(*image == asked.1);
            }
        }
        if of_account >= AT_ONCE || of_image >= AT_ONCE_ON_ONE {
            return false;
        }
        self.put(asked.clone(), Answer::UnderWay { account: account.to_owned() });
        true
    }

    /// After a pass: those who waited for what failed have been told.
    pub(super) fn forget_told(&self) {
        let mut known = self.known.lock().expect("nothing panics while it is held");
        known.retain(|_, answer| !matches!(answer, Answer::Not { seen: true, .. }));
    }
}

impl Fleet {
    /// What an image means for a request's buildset, as far as it is known; asks where nobody has.
    pub(super) async fn image(
        self: &Arc<Self>,
        request: &Request,
        account: Account,
        ask: ResolveRequest,
        key: &str,
    ) -> Result<Image, rouse_store::ReadError> {
        let asked = (request.buildset, key.to_owned());
        if let Some(known) = self.answers.look(&asked, &account.name) {
            return Ok(known);
        }
        if let Some(settled) = self.settled(request, key).await? {
            self.answers.put(asked, Answer::Is(settled.clone()));
            return Ok(Image::Is(settled));
        }
        match self.breakers.may(&account.name, key) {
            May::Ask => {}
            May::Wait => return Ok(Image::UnderWay),
            May::Not(error) => return Ok(Image::Not(error)),
        }
        if self.answers.begin(&asked, &account.name) {
            self.breakers.asks(&account.name, key);
            let question =
                Question { fleet: Arc::clone(self), asked, account: account.name.clone(), answer: None };
            crate::supervisor::spawn("resolve", async move {
                let answer = account.provider.resolve(&ask).await;
                if let Ok(resolved) = &answer {
                    question.fleet.warm.note(&account.name, &resolved.id);
                }
                question.end(answer);
            });
        }
        Ok(Image::UnderWay)
    }

    /// What an earlier process was told for this request or another of its buildset.
    async fn settled(
        &self,
        request: &Request,
        key: &str,
    ) -> Result<Option<Resolved>, rouse_store::ReadError> {
        let found = |request: &Request| request.provision.images.get(key).cloned();
        let settled = match found(request) {
            Some(settled) => Some(settled),
            None => self.ctx.store.requests_of(request.buildset).await?.iter().find_map(found),
        };
        Ok(settled.map(|SettledImage { image, id }| Resolved { image, id }))
    }
}

/// A question under way. However its task ends, there is an answer, and the fleet hears of it.
struct Question {
    fleet: Arc<Fleet>,
    asked: Asked,
    account: String,
    answer: Option<Result<Resolved, ProviderError>>,
}

impl Question {
    fn end(mut self, answer: Result<Resolved, ProviderError>) {
        self.answer = Some(answer);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let answer = match self.answer.take() {
            Some(Ok(resolved)) => {
                self.fleet.breakers.good(&self.account, &self.asked.1);
                Answer::Is(resolved)
            }
            Some(Err(error)) => {
                let error = self.fleet.breakers.failed(&self.account, &self.asked.1, error);
                Answer::Not { error, seen: false }
            }
            None => {
                let error = ProviderError::new(FailureClass::Master, "find an image", "the search broke off");
                Answer::Not { error, seen: false }
            }
        };
        self.fleet.answers.end(self.asked.clone(), &self.account, answer);
        self.fleet.ctx.nudges.fleet.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(buildset: i64, image: &str) -> Asked {
        (BuildsetId(buildset), image.to_owned())
    }

    fn is(id: &str) -> Answer {
        Answer::Is(Resolved { image: id.to_owned(), id: id.to_owned() })
    }

    fn not() -> Answer {
        let error = ProviderError::new(FailureClass::Image, "find an image", "there is none");
        Answer::Not { error, seen: false }
    }

    #[test]
    fn a_question_is_asked_once_and_only_who_was_asked_answers_it() {
        let answers = Answers::default();
        let one = asked(1, "a");
        assert!(answers.look(&one, "here").is_none());
        assert!(answers.begin(&one, "here"));
        assert!(matches!(answers.look(&one, "here"), Some(Image::UnderWay)));
        assert!(answers.look(&one, "there").is_none(), "who is asked now has not been asked");
        assert!(answers.begin(&one, "there"));
        answers.end(one.clone(), "here", is("late"));
        assert!(matches!(answers.look(&one, "there"), Some(Image::UnderWay)));
        answers.end(one.clone(), "there", is("a"));
        assert!(matches!(answers.look(&one, "here"), Some(Image::Is(found)) if found.id == "a"));
        answers.end(one.clone(), "there", is("b"));
        assert!(matches!(answers.look(&one, "here"), Some(Image::Is(found)) if found.id == "a"));
    }

    #[test]
    fn who_was_told_that_it_failed_asks_anew_and_others_are_told_first() {
        let answers = Answers::default();
        let (one, other) = (asked(1, "a"), asked(2, "a"));
        for asked in [&one, &other] {
            assert!(answers.begin(asked, "here"));
            answers.end(asked.clone(), "here", not());
        }
        assert!(matches!(answers.look(&one, "here"), Some(Image::Not(_))));
        answers.forget_told();
        assert!(answers.look(&one, "here").is_none());
        assert!(matches!(answers.look(&other, "here"), Some(Image::Not(_))));
    }

    #[test]
    fn one_image_does_not_take_all_places_of_an_account_and_one_account_not_those_of_another() {
        let answers = Answers::default();
        let begun = |image: &str, account: &str| {
            (0..100).filter(|set| answers.begin(&asked(*set, image), account)).count()
        };
        assert_eq!(begun("a", "here"), AT_ONCE_ON_ONE);
        assert_eq!(begun("b", "here"), AT_ONCE_ON_ONE);
        assert_eq!((2..9).map(|image| begun(&image.to_string(), "here")).sum::<usize>(), AT_ONCE - 16);
        assert_eq!(begun("c", "there"), AT_ONCE_ON_ONE);
    }

    #[test]
    fn answers_are_forgotten_before_there_are_too_many_and_questions_are_not() {
        let answers = Answers::default();
        assert!(answers.begin(&asked(0, "open"), "here"));
        for set in 0..REMEMBERED as i64 {
            answers.put(asked(set, "a"), is("a"));
        }
        assert!(matches!(answers.look(&asked(0, "open"), "here"), Some(Image::UnderWay)));
        assert!(answers.look(&asked(0, "a"), "here").is_none());
        assert!(answers.look(&asked(REMEMBERED as i64 - 1, "a"), "here").is_some());
    }

    #[test]
    fn what_is_asked_of_whom_is_told_by_all_that_decides() {
        let ask = |image: &str, platform: &str| ResolveRequest {
            images: vec![image.to_owned()],
            options: serde_json::json!({"platform": platform}),
            secrets: rouse_contract::Keyring::default(),
            tree: None,
        };
        let tree = rouse_contract::tree::Tree {
            codebase: "app".into(),
            revision: "1".into(),
            folder: "image".into(),
            trust: rouse_model::Trust::Trusted,
            reader: rouse_contract::tree::Reader::default(),
        };
        let made = ResolveRequest { tree: Some(tree), ..ask("a:1", "amd64") };
        let keys = [
            key("one,two", &ask("a:1", "amd64")),
            key("one", &ask("a:1", "amd64")),
            key("one,two", &ask("a:2", "amd64")),
            key("one,two", &ask("a:1", "arm64")),
            key("one,two", &made),
        ];
        let different: std::collections::HashSet<&String> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "{keys:#?}");
        assert_eq!(keys[0], key("one,two", &ask("a:1", "amd64")));
    }
}
