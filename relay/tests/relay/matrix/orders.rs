//! What the administrator does, and what principals share.

use rejoin::codec::v1::Access;
use serde_json::{Value as Json, json};

use super::model::{JUDY, Kind, PRINCIPALS, Target, Token};
use super::{SPACES, World, access_text, now, space_text};

/// How a target is written by the administrator.
fn target_text(target: Target) -> String {
    match target {
        Target::Everything => "everything".to_owned(),
        Target::Space(space) => format!("space/{}", space_text(&space)),
        Target::Document(document) => format!("document/{document}"),
    }
}

impl World {
    /// Does something that an administrator does, chosen by a number up to 37.
    pub(super) async fn order(&mut self, dice: usize) {
        match dice {
            0..=16 => {
                let (principal, target, access) = (self.random.below(4), self.target(), self.access());
                let until = match self.random.below(10) {
                    0 => Some(now() - 100),
                    1 | 2 => Some(now() + 10_000),
                    _ => None,
                };
                self.put_grant(principal, target, access, until).await;
            }
            17..=23 => self.remove_grant().await,
            24..=27 => self.switch_principal().await,
            28..=29 => {
                let principal = self.random.below(JUDY);
                self.create_token(principal, true).await;
            }
            30..=31 => self.revoke_token().await,
            32..=33 => self.rotate_token().await,
            _ => self.switch_space().await,
        }
    }

    pub(super) async fn put_grant(&mut self, principal: usize, target: Target, access: Access, until: Option<u64>) {
        let grant = json!({
            "principal": PRINCIPALS[principal], "target": target_text(target), "access": access_text(access),
            "until_seconds": until,
        });
        self.admin("PUT /v1/grants", Some(grant), 200).await;
        let is_good = until.is_none_or(|until| until > now());
        self.model.grants.insert((principal, target), (access, is_good));
    }

    async fn remove_grant(&mut self) {
        let all: Vec<_> = self.model.grants.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let (principal, target) = self.random.pick(&all);
        let what = format!("DELETE /v1/grants?principal={}&target={}", PRINCIPALS[principal], target_text(target));
        self.admin(&what, None, 200).await;
        self.model.grants.remove(&(principal, target));
    }

    async fn switch_principal(&mut self) {
        let disabled: Vec<_> = self.model.disabled.iter().copied().collect();
        let (principal, disable) = match disabled.first() {
            Some(principal) => (*principal, false),
            None => (self.random.pick(&[1, 2, 2, JUDY]), true),
        };
        let what = format!("PATCH /v1/principals/{}", PRINCIPALS[principal]);
        self.admin(&what, Some(json!({ "disabled": disable })), 200).await;
        let _ = if disable { self.model.disabled.insert(principal) } else { self.model.disabled.remove(&principal) };
    }

    async fn switch_space(&mut self) {
        let archived: Vec<_> = self.model.archived.iter().copied().collect();
        let (space, archive) = match archived.first() {
            Some(space) => (*space, false),
            None => (self.random.pick(&SPACES), true),
        };
        let what = format!("PATCH /v1/spaces/{}", space_text(&space));
        self.admin(&what, Some(json!({ "archived": archive })), 200).await;
        let _ = if archive { self.model.archived.insert(space) } else { self.model.archived.remove(&space) };
    }

    pub(super) async fn create_token(&mut self, principal: usize, may_narrow: bool) {
        let scope = (may_narrow && self.random.percent(50)).then(|| self.scopes());
        let shown = scope.as_ref().map(|scope| {
            let one = |(target, access): &(Target, Access)| json!({ "target": target_text(*target), "access": access_text(*access) });
            scope.iter().map(one).collect::<Vec<_>>()
        });
        let body = json!({ "principal": PRINCIPALS[principal], "scope": shown });
        let made = self.admin("POST /v1/tokens", Some(body), 201).await;
        self.take_token(&made, principal, Kind::Api { scope });
    }

    fn take_token(&mut self, made: &Json, principal: usize, kind: Kind) {
        let text = made["secret"].as_str().unwrap().to_owned();
        let id = made["token"]["id"].as_str().unwrap().to_owned();
        let name = PRINCIPALS[principal].to_owned();
        self.model.tokens.push(Token { id, text, principal, name, kind, revoked: false, replaced: false });
    }

    async fn revoke_token(&mut self) {
        let token = self.token();
        let it = &self.model.tokens[token];
        // Each of them keeps the first.
        if matches!(it.kind, Kind::Jwt { .. }) || token < JUDY {
            return;
        }
        let what = format!("DELETE /v1/tokens/{}", it.id);
        self.admin(&what, None, 200).await;
        self.model.tokens[token].revoked = true;
    }

    async fn rotate_token(&mut self) {
        let token = self.token();
        let it = &self.model.tokens[token];
        let Kind::Api { scope } = &it.kind else { return };
        if token < JUDY {
            return;
        }
        let (what, principal, scope) = (format!("POST /v1/tokens/{}/rotate", it.id), it.principal, scope.clone());
        let is_good = !it.revoked && !it.replaced;
        let grace = if self.random.percent(50) { 0 } else { 3_600 };
        let expected = if is_good { 201 } else { 400 };
        let (status, made) = self.relay.administer(&what, Some(&json!({ "grace_seconds": grace }))).await;
        assert_eq!(status == 201, is_good, "{what}: {status} {made}, expected {expected}");
        if is_good {
            self.model.tokens[token].replaced = grace == 0;
            self.take_token(&made, principal, Kind::Api { scope });
        }
    }

    /// On how many links one stands.
    fn depth(&self, token: usize) -> usize {
        match self.model.tokens[token].kind {
            Kind::Link { parent, .. } => 1 + self.depth(parent),
            _ => 0,
        }
    }

    /// Makes a link of what somebody may do, or tries to.
    pub(super) async fn share(&mut self) {
        let parent = self.token();
        if self.depth(parent) > 1 {
            return;
        }
        let access = self.random.pick(&[Access::Read, Access::Write]);
        let document = self.document();
        // In which space a document will be that is not here, nobody knows.
        let mut is_here = true;
        let (target, home, one, body) = if self.random.percent(50) {
            let space = self.random.pick(&SPACES);
            (Target::Space(space), space, None, json!({ "space": space_text(&space), "access": access_text(access) }))
        } else {
            let it = &self.model.documents[document];
            is_here = it.is_live();
            let body = json!({ "document": it.id.to_string(), "access": access_text(access) });
            (Target::Document(it.id), it.place(), Some(it.id), body)
        };
        let it = &self.model.tokens[parent];
        let (status, answer) = self.relay.ask("POST /share", Some(&it.text), Some(&body)).await;
        let expected = match self.model.access(parent, home, one) {
            _ if self.model.is_over(parent) => 401,
            may if may >= Some(access) && is_here => 201,
            _ => 404,
        };
        assert_eq!(status, expected, "{body} by {it:?}: {answer}");
        if status != 201 {
            return;
        }
        let made: Json = serde_json::from_str(&answer).unwrap();
        let (id, text) = (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned());
        let claimed = matches!(it.kind, Kind::Jwt { .. }) && self.model.is_claimed(it.principal, home, one, access);
        let (principal, name) = (it.principal, format!("link:{id}"));
        let kind = Kind::Link { parent, claimed, target, access, home };
        self.model.tokens.push(Token { id, text, principal, name, kind, revoked: false, replaced: false });
    }

    /// Takes a link back, or tries to.
    pub(super) async fn unshare(&mut self) {
        let is_link = |token: &usize| matches!(self.model.tokens[*token].kind, Kind::Link { .. });
        let links: Vec<_> = (0..self.model.tokens.len()).filter(is_link).collect();
        if links.is_empty() {
            return;
        }
        let link = self.random.pick(&links);
        let Kind::Link { parent, .. } = self.model.tokens[link].kind else { return };
        let by = if self.random.percent(70) { parent } else { self.token() };
        let (by_whom, maker) = (&self.model.tokens[by], &self.model.tokens[parent]);
        let what = format!("DELETE /share/{}", self.model.tokens[link].id);
        let (status, answer) = self.relay.ask(&what, Some(&by_whom.text), None).await;
        let is_makers = by_whom.name == maker.name;
        let expected = match (self.model.is_over(by), is_makers, self.model.tokens[link].revoked) {
            (true, ..) => 401,
            (_, true, false) => 204,
            _ => 404,
        };
        assert_eq!(status, expected, "{what} by {by_whom:?}: {answer}");
        if status == 204 {
            self.model.tokens[link].revoked = true;
        }
    }

    /// Tries the administrator's door without the right key.
    pub(super) async fn knock(&mut self) {
        let token = self.token();
        let text = self.model.tokens[token].text.clone();
        let keys = [None, Some("rja_of-somebody-else-altogether-0000000000"), Some(text.as_str())];
        let doors = ["GET /v1/documents", "GET /v1/grants", "POST /v1/tokens", "GET /v1/tokens", "GET /v1/stats"];
        let door = doors[self.random.below(doors.len())];
        for key in keys {
            let body = json!({ "principal": "alice" });
            let (status, answer) = self.relay.administer_as(door, key, Some(&body)).await;
            assert!(status == 401 || status == 429, "{door}: {status} {answer}");
            let tells = |canary: &str| answer.contains(canary);
            assert!(!self.model.documents.iter().any(|it| tells(&it.canary) || tells(&it.id.to_string())));
        }
    }
}
