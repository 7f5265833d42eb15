//! The arguments: a noun and a verb.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What an administrator acts on.
#[derive(Debug, Clone, Subcommand)]
pub enum Noun {
    /// Spaces: name, bound, archive, delete, export and import them
    #[command(subcommand)]
    Space(SpaceVerb),
    /// Principals: who may come in
    #[command(subcommand)]
    Principal(PrincipalVerb),
    /// API tokens and share links
    #[command(subcommand)]
    Token(TokenVerb),
    /// Grants: what principals may do
    #[command(subcommand)]
    Grant(GrantVerb),
    /// Documents: look at them, put them aside, delete them
    #[command(subcommand)]
    Document(DocumentVerb),
    /// Connections: who is there
    #[command(subcommand)]
    Connection(ConnectionVerb),
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditVerb),
    /// The log of a space: what became durable when
    #[command(subcommand)]
    Log(LogVerb),
    /// The configuration in force
    #[command(subcommand)]
    Config(ConfigVerb),
    /// How the relay is
    #[command(subcommand)]
    Stats(StatsVerb),
    /// Backups of a running relay
    #[command(subcommand)]
    Backup(BackupVerb),
    /// Checks of a running relay's store
    #[command(subcommand)]
    Verify(VerifyVerb),
    /// Jobs: what takes longer
    #[command(subcommand)]
    Job(JobVerb),
}

/// Which part of a list. As a group of arguments it would have the name of the verbs that it is part of.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct List {
    /// Go on after this one
    #[arg(long)]
    pub after: Option<String>,
    /// The most items
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// What is done with spaces.
#[derive(Debug, Clone, Subcommand)]
pub enum SpaceVerb {
    /// List spaces
    List(List),
    /// Write a new space down
    Create {
        /// Its id; default: a random one
        #[arg(long)]
        id: Option<String>,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        /// How many bytes of changes it may have
        #[arg(long)]
        bytes_max: Option<u64>,
    },
    /// Show a space
    Show {
        /// Its id, or default
        space: String,
        /// Count what is in it too
        #[arg(long)]
        usage: bool,
    },
    /// Change what is known of a space
    Set {
        /// Its id, or default
        space: String,
        /// What people call it; empty takes the name away
        #[arg(long)]
        name: Option<String>,
        /// How many bytes of changes it may have; 0 leaves it to the configuration
        #[arg(long)]
        bytes_max: Option<u64>,
    },
    /// Let nobody write to a space any more
    Archive {
        /// Its id, or default
        space: String,
    },
    /// Let a space be written to again
    Unarchive {
        /// Its id, or default
        space: String,
    },
    /// Delete an archived space for good, here and on the devices that hear of it
    Delete {
        /// Its id
        space: String,
        /// That it is meant
        #[arg(long)]
        yes: bool,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Write a space with all its documents into a file here
    Export {
        /// Its id, or default
        space: String,
        /// File to write; it must not be there
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Take a space in from a file here
    Import {
        /// The id it gets here, or default
        space: String,
        /// File that an export wrote
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
}

/// What is done with principals.
#[derive(Debug, Clone, Subcommand)]
pub enum PrincipalVerb {
    /// List the principals that are written down
    List(List),
    /// Write a principal down
    Create {
        /// The application's name for it
        principal: String,
        /// What people call it
        #[arg(long)]
        label: Option<String>,
    },
    /// Show a principal
    Show {
        /// Its name
        principal: String,
    },
    /// Change what people call it; empty takes the label away
    Set {
        /// Its name
        principal: String,
        /// What people call it
        #[arg(long)]
        label: String,
    },
    /// Refuse all of its tokens, and end its connections
    Disable {
        /// Its name
        principal: String,
    },
    /// Take its tokens again
    Enable {
        /// Its name
        principal: String,
    },
    /// Delete it with its tokens and grants
    Delete {
        /// Its name
        principal: String,
    },
}

/// What is done with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenVerb {
    /// List tokens and share links
    List {
        /// Only those of this principal
        #[arg(long)]
        principal: Option<String>,
        /// Which part.
        #[command(flatten)]
        list: List,
    },
    /// Make an API token, and show its text this once
    Create {
        /// Whose it is to be
        principal: String,
        /// What people call it
        #[arg(long)]
        label: Option<String>,
        /// After what time it ends, such as 30days; default: when it is revoked
        #[arg(long, value_name = "TIME")]
        expires_in: Option<humantime::Duration>,
        /// What it allows at most, such as space/default=read; may be repeated
        #[arg(long, value_name = "TARGET=ACCESS")]
        scope: Vec<String>,
    },
    /// Show a token, without its text
    Show {
        /// Its id
        token: String,
    },
    /// Make a token that takes its place, and show the text this once
    Rotate {
        /// Its id
        token: String,
        /// How long the old one still works
        #[arg(long, value_name = "TIME", default_value = "1h")]
        grace: humantime::Duration,
    },
    /// Revoke it, and end its connections
    Revoke {
        /// Its id
        token: String,
    },
}

/// How much may be done.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Level {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// All there is.
    Admin,
}

/// What is done with grants.
#[derive(Debug, Clone, Subcommand)]
pub enum GrantVerb {
    /// List grants
    List {
        /// Only those of this principal
        #[arg(long)]
        principal: Option<String>,
        /// Which part.
        #[command(flatten)]
        list: List,
    },
    /// Grant something, in place of what was granted for the same
    Put {
        /// To whom
        principal: String,
        /// For what: everything, space/<id> or document/<id>
        target: String,
        /// How much
        access: Level,
        /// For how long, such as 30days; default: until it is removed
        #[arg(long = "for", value_name = "TIME")]
        how_long: Option<humantime::Duration>,
    },
    /// Take back what was granted
    Remove {
        /// From whom
        principal: String,
        /// For what: everything, space/<id> or document/<id>
        target: String,
    },
}

/// What is done with documents.
#[derive(Debug, Clone, Subcommand)]
pub enum DocumentVerb {
    /// List the documents of a space
    List {
        /// The space's id, or default
        space: String,
        /// Which part.
        #[command(flatten)]
        list: List,
    },
    /// Show a document
    Show {
        /// Its id
        document: String,
    },
    /// Let nobody read or write it until it is released
    Quarantine {
        /// Its id
        document: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Release it from quarantine
    Release {
        /// Its id
        document: String,
    },
    /// List what is in quarantine
    Quarantined(List),
    /// Delete it everywhere
    Delete {
        /// Its id
        document: String,
        /// That it is meant
        #[arg(long)]
        yes: bool,
    },
    /// Delete it everywhere and leave none of its bytes
    Purge {
        /// Its id
        document: String,
        /// That it is meant
        #[arg(long)]
        yes: bool,
    },
}

/// What is done with connections.
#[derive(Debug, Clone, Subcommand)]
pub enum ConnectionVerb {
    /// List connections
    List {
        /// Only those of this principal
        #[arg(long)]
        principal: Option<String>,
        /// Which part.
        #[command(flatten)]
        list: List,
    },
    /// Show a connection
    Show {
        /// Its number
        number: u64,
    },
    /// End a connection, or all of a principal
    Kick {
        /// Its number
        #[arg(required_unless_present = "principal", conflicts_with = "principal")]
        number: Option<u64>,
        /// All of this principal
        #[arg(long)]
        principal: Option<String>,
    },
}

/// What is done with the audit trail.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditVerb {
    /// Show the newest records, or those after a number
    List(AuditList),
}

/// What is looked for in the audit trail.
#[derive(Debug, Clone, Args)]
pub struct AuditList {
    /// From this number on, oldest first; default: the newest
    #[arg(long)]
    pub after: Option<u64>,
    /// The most records
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// Only what was done, or only what was refused
    #[arg(long, value_parser = ["act", "refusal"])]
    pub kind: Option<String>,
    /// The beginning of the action, such as space.
    #[arg(long)]
    pub action: Option<String>,
    /// Who did it, or to whom it was done
    #[arg(long)]
    pub principal: Option<String>,
    /// The beginning of the target, such as document/
    #[arg(long)]
    pub target: Option<String>,
    /// Not longer ago than this, such as 2h
    #[arg(long, value_name = "TIME")]
    pub within: Option<humantime::Duration>,
}

/// What is done with logs.
#[derive(Debug, Clone, Subcommand)]
pub enum LogVerb {
    /// Show the end of a space's log, or what is after a position
    Tail {
        /// The space's id, or default
        space: String,
        /// After this position; default: the last ones
        #[arg(long)]
        after: Option<u64>,
        /// The most entries
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

/// What is done with the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigVerb {
    /// Show the configuration in force, without its secrets
    Show,
    /// Read the configuration again, as SIGHUP does
    Reload,
}

/// What is asked of the relay.
#[derive(Debug, Clone, Subcommand)]
pub enum StatsVerb {
    /// Show how the relay is
    Show,
    /// Count everything that is in the store
    Count {
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
}

/// What is done about backups.
#[derive(Debug, Clone, Subcommand)]
pub enum BackupVerb {
    /// Write a backup into a directory on the relay's machine
    Start {
        /// Directory on the relay's machine, by its absolute path; it must not be there
        #[arg(long, value_name = "DIR")]
        to: String,
        /// An earlier backup there, by its absolute path: only what came after it is written
        #[arg(long, value_name = "DIR")]
        since: Option<String>,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
}

/// What is done about checks.
#[derive(Debug, Clone, Subcommand)]
pub enum VerifyVerb {
    /// Check the store; ends with 1 if anything is wrong
    Start {
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
}

/// What is done with jobs.
#[derive(Debug, Clone, Subcommand)]
pub enum JobVerb {
    /// List the jobs under way and the last ones that ended
    List(List),
    /// Show a job
    Show {
        /// Its id
        job: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_noun_and_verb_can_be_asked_for() {
        // Two of the same name would only be noticed by whoever types that verb.
        Noun::augment_subcommands(clap::Command::new("admin")).debug_assert();
    }
}
