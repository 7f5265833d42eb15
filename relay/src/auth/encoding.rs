//! How the directory's records stand in the store: `core/docs/storage.md` draws them byte by byte.
//!
//! What is read here was written by us; it is read with every length checked all the same.

use rejoin::codec::v1::Access;
use rejoin::store::StoreError;
use rejoin::store::record::{Reader, put_bytes, put_uint};
use rejoin::{DocumentId, SpaceId};

use super::PrincipalId;
use super::record::{Grant, Principal, Scope, SpaceRecord, StoredToken, Target, TokenId, TokenKind, TokenRecord};
use super::rights::Right;
use super::secret::SecretHash;

/// The kinds of records in `directory-1`: the first byte of their keys. 0 is for settings of the directory itself.
pub(super) const PRINCIPAL: u8 = 1;
pub(super) const TOKEN: u8 = 2;
pub(super) const SPACE: u8 = 3;

/// The first byte of each value.
pub(super) const VERSION: u8 = 1;

/// The key under which the key of tickets stands in `directory-1`.
pub(super) const TICKET_KEY: &[u8] = b"\0ticket-key";

pub(super) fn principal_key(id: &PrincipalId) -> Vec<u8> {
    key(PRINCIPAL, id.as_str().as_bytes())
}

pub(super) fn token_key(id: TokenId) -> Vec<u8> {
    key(TOKEN, id.as_bytes())
}

pub(super) fn space_key(id: &SpaceId) -> Vec<u8> {
    key(SPACE, id.as_bytes())
}

fn key(kind: u8, id: &[u8]) -> Vec<u8> {
    [&[kind], id].concat()
}

/// What all keys of a principal's grants begin with.
pub(super) fn grants_prefix(principal: &PrincipalId) -> Vec<u8> {
    // At most 128 bytes long, so that no key is the beginning of another.
    let length = u8::try_from(principal.as_str().len()).unwrap_or(u8::MAX);
    key(length, principal.as_str().as_bytes())
}

pub(super) fn grant_key(principal: &PrincipalId, target: &Target) -> Vec<u8> {
    let mut out = grants_prefix(principal);
    put_target(&mut out, target);
    out
}

pub(super) fn write_principal(principal: &Principal) -> Vec<u8> {
    let mut out = vec![VERSION, u8::from(principal.disabled)];
    put_uint(&mut out, principal.created_seconds);
    put_option(&mut out, principal.label.as_ref(), |out, label| put_bytes(out, label.as_bytes()));
    out
}

pub(super) fn read_principal(id: &[u8], value: &[u8]) -> Result<Principal, StoreError> {
    let mut reader = Reader::new(value, "a principal");
    reader.version()?;
    let id = reader.principal(id)?;
    let disabled = reader.flag()?;
    let created_seconds = reader.uint()?;
    let label = reader.option(Reader::label)?;
    reader.end()?;
    Ok(Principal { id, label, disabled, created_seconds })
}

pub(super) fn write_token(token: &StoredToken) -> Vec<u8> {
    let record = &token.record;
    let kind = match record.kind {
        TokenKind::Api => 0,
        TokenKind::Link => 1,
    };
    let mut out = vec![VERSION, kind, u8::from(record.revoked), u8::from(token.claimed)];
    out.extend_from_slice(token.hash.as_bytes());
    put_uint(&mut out, record.created);
    put_option(&mut out, record.expires.as_ref(), |out, at| put_uint(out, *at));
    put_option(&mut out, record.principal.as_ref(), |out, id| put_bytes(out, id.as_str().as_bytes()));
    put_option(&mut out, record.label.as_ref(), |out, label| put_bytes(out, label.as_bytes()));
    put_option(&mut out, token.parent.as_ref(), |out, id| out.extend_from_slice(id.as_bytes()));
    put_option(&mut out, token.home.as_ref(), |out, id| out.extend_from_slice(id.as_bytes()));
    put_option(&mut out, record.scope.as_ref(), |out, scopes| {
        put_uint(out, scopes.len() as u64);
        for scope in scopes {
            put_target(out, &scope.target);
            out.push(access_byte(scope.access));
        }
    });
    out
}

pub(super) fn read_token(id: &[u8], value: &[u8]) -> Result<StoredToken, StoreError> {
    let mut reader = Reader::new(value, "a token");
    reader.version()?;
    let id = id.try_into().map(TokenId::from_bytes).map_err(|_| reader.damaged())?;
    let kind = match reader.byte()? {
        0 => TokenKind::Api,
        1 => TokenKind::Link,
        _ => return Err(reader.damaged()),
    };
    let (revoked, claimed) = (reader.flag()?, reader.flag()?);
    let hash = SecretHash::from_bytes(reader.array()?);
    let created = reader.uint()?;
    let expires = reader.option(Reader::uint)?;
    let principal = reader.option(|reader| reader.bytes().and_then(|id| reader.principal(id)))?;
    let label = reader.option(Reader::label)?;
    let parent = reader.option(|reader| reader.array().map(TokenId::from_bytes))?;
    let home = reader.option(|reader| reader.array().map(SpaceId::from_bytes))?;
    let scope = reader.option(Reader::scopes)?;
    reader.end()?;
    let record = TokenRecord { id, kind, principal, label, created, expires, revoked, scope };
    Ok(StoredToken { record, hash, parent, claimed, home })
}

pub(super) fn write_space(space: &SpaceRecord) -> Vec<u8> {
    let mut out = vec![VERSION, u8::from(space.archived)];
    put_uint(&mut out, space.created_seconds);
    put_option(&mut out, space.bytes_max.as_ref(), |out, bytes| put_uint(out, *bytes));
    put_option(&mut out, space.name.as_ref(), |out, name| put_bytes(out, name.as_bytes()));
    out
}

pub(super) fn read_space(id: &[u8], value: &[u8]) -> Result<SpaceRecord, StoreError> {
    let mut reader = Reader::new(value, "a space's record");
    reader.version()?;
    let id = id.try_into().map(SpaceId::from_bytes).map_err(|_| reader.damaged())?;
    let archived = reader.flag()?;
    let created_seconds = reader.uint()?;
    let bytes_max = reader.option(Reader::uint)?;
    let name = reader.option(Reader::label)?;
    reader.end()?;
    Ok(SpaceRecord { id, name, archived, created_seconds, bytes_max })
}

pub(super) fn write_right(right: &Right) -> Vec<u8> {
    let mut out = vec![VERSION, access_byte(right.access)];
    put_option(&mut out, right.until.as_ref(), |out, until| put_uint(out, *until));
    out
}

pub(super) fn read_grant(key: &[u8], value: &[u8]) -> Result<Grant, StoreError> {
    let mut reader = Reader::new(key, "a grant");
    let principal = reader.byte().and_then(|length| reader.take(usize::from(length)))?;
    let principal = reader.principal(principal)?;
    let target = reader.target()?;
    reader.end()?;
    let mut reader = Reader::new(value, "a grant");
    reader.version()?;
    let access = reader.access()?;
    let until = reader.option(Reader::uint)?;
    reader.end()?;
    Ok(Grant { principal, target, access, until })
}

pub(super) fn put_target(out: &mut Vec<u8>, target: &Target) {
    match target {
        Target::Everything => out.push(0),
        Target::Space(space) => {
            out.push(1);
            out.extend_from_slice(space.as_bytes());
        }
        Target::Document(document) => {
            out.push(2);
            out.extend_from_slice(document.as_bytes());
        }
    }
}

pub(super) fn access_byte(access: Access) -> u8 {
    match access {
        Access::Read => 1,
        Access::Write => 2,
        Access::Admin => 3,
    }
}

/// Appends 0, or 1 and what is there.
fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// What the directory's records are made of, besides what every record is.
pub(super) trait Fields: Sized {
    /// Reads [`VERSION`].
    fn version(&mut self) -> Result<(), StoreError>;
    fn flag(&mut self) -> Result<bool, StoreError>;
    fn label(&mut self) -> Result<String, StoreError>;
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<Option<T>, StoreError>;
    /// Takes bytes that were read for a principal's id.
    fn principal(&self, bytes: &[u8]) -> Result<PrincipalId, StoreError>;
    fn target(&mut self) -> Result<Target, StoreError>;
    fn access(&mut self) -> Result<Access, StoreError>;
    fn scopes(&mut self) -> Result<Vec<Scope>, StoreError>;
    /// Wants nothing to be left.
    fn end(self) -> Result<(), StoreError>;
}

impl Fields for Reader<'_> {
    fn version(&mut self) -> Result<(), StoreError> {
        let version = self.byte()?;
        if version == VERSION { Ok(()) } else { Err(self.damaged()) }
    }

    fn flag(&mut self) -> Result<bool, StoreError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged()),
        }
    }

    fn label(&mut self) -> Result<String, StoreError> {
        self.text().map(str::to_owned)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn principal(&self, bytes: &[u8]) -> Result<PrincipalId, StoreError> {
        std::str::from_utf8(bytes).ok().and_then(PrincipalId::new).ok_or_else(|| self.damaged())
    }

    fn target(&mut self) -> Result<Target, StoreError> {
        match self.byte()? {
            0 => Ok(Target::Everything),
            1 => Ok(Target::Space(SpaceId::from_bytes(self.array()?))),
            2 => Ok(Target::Document(DocumentId::from_bytes(self.array()?))),
            _ => Err(self.damaged()),
        }
    }

    fn access(&mut self) -> Result<Access, StoreError> {
        match self.byte()? {
            1 => Ok(Access::Read),
            2 => Ok(Access::Write),
            3 => Ok(Access::Admin),
            _ => Err(self.damaged()),
        }
    }

    fn scopes(&mut self) -> Result<Vec<Scope>, StoreError> {
        let count = self.uint()?;
        // Each takes two bytes at least, so a damaged count ends with the bytes.
        (0..count).map(|_| Ok(Scope { target: self.target()?, access: self.access()? })).collect()
    }

    fn end(self) -> Result<(), StoreError> {
        if self.is_at_end() { Ok(()) } else { Err(self.damaged()) }
    }
}
