//! The handshake with a server of NBD, from the first byte to an export that is open ("Newstyle negotiation").

use std::io::Read as _;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::error::NbdError;
use super::options::{
    self, BlockSizes, FIXED_NEWSTYLE, INIT_MAGIC, Info, MetaContext, NO_ZEROES, OPTION_MAGIC, Opt, REPLY_HEAD_LEN,
    Reason, Refusal, Reply, ReplyHead,
};
use super::place::NbdPlace;
use super::request::Abilities;
use super::tls::NbdTls;

/// Exports that are read of a server's list.
const MOST_EXPORTS: usize = 10_000;
/// Answers to any other option.
const MOST_REPLIES: usize = 64;

/// The context that tells where there are holes ("The `base:` metadata namespace").
pub(super) const ALLOCATION: &str = "base:allocation";

/// How a server is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server {
    pub(super) place: NbdPlace,
    pub(super) tls: Option<NbdTls>,
    /// For a handshake, and for each request.
    pub(super) limit: Duration,
}

/// What a server says of an export when it opens it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Opened {
    pub(super) size_bytes: u64,
    pub(super) abilities: Abilities,
    pub(super) blocks: BlockSizes,
    pub(super) structured: bool,
    /// Of those that were asked for.
    pub(super) contexts: Vec<MetaContext>,
}

/// A server that has been greeted, ready to be asked for options.
#[derive(Debug)]
pub(super) struct Haggling {
    channel: Channel,
    server: String,
    no_zeroes: bool,
}

impl Server {
    /// # Errors
    /// That it is not reached, is none, or that TLS is not as it was configured.
    pub(super) fn greet(&self) -> Result<Haggling, NbdError> {
        let deadline = Instant::now() + self.limit;
        let server = self.place.to_string();
        let unreachable =
            |error: std::io::Error| NbdError::Unreachable { server: server.clone(), why: error.to_string() };
        let socket = self.place.connect(self.limit).map_err(unreachable)?;
        let channel = Channel::new(socket, deadline).map_err(unreachable)?;
        let mut haggling = Haggling { channel, server: server.clone(), no_zeroes: false };
        haggling.exchange_flags().map_err(|error| self.of_greeting(error))?;
        if let Some(tls) = &self.tls {
            haggling.start_tls(tls, self.place.host())?;
        }
        Ok(haggling)
    }

    /// Who is connected and says nothing may have no room for another client.
    fn of_greeting(&self, error: NbdError) -> NbdError {
        let NbdError::Lost(why) = &error else { return error };
        let server = self.place.to_string();
        NbdError::Unreachable {
            server,
            why: format!(
                "it took the connection and did not greet ({why}); a server may serve few clients at once (qemu-nbd: --shared)"
            ),
        }
    }
}

impl Haggling {
    fn read<const N: usize>(&mut self) -> Result<[u8; N], NbdError> {
        let mut bytes = [0; N];
        self.channel.receiver.read_exact(&mut bytes).map_err(|error| NbdError::of_socket(&error))?;
        Ok(bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NbdError> {
        self.channel.send(bytes).map_err(|error| NbdError::of_socket(&error))
    }

    fn exchange_flags(&mut self) -> Result<(), NbdError> {
        let not_newstyle = |why| NbdError::NotNewstyle { server: self.server.clone(), why };
        let (greeting, too_old) =
            (not_newstyle("its greeting is another"), not_newstyle("its handshake is of the old style"));
        if u64::from_be_bytes(self.read()?) != INIT_MAGIC {
            return Err(greeting);
        }
        if u64::from_be_bytes(self.read()?) != OPTION_MAGIC {
            return Err(too_old);
        }
        let flags = u16::from_be_bytes(self.read()?);
        if flags & FIXED_NEWSTYLE == 0 {
            return Err(too_old);
        }
        self.no_zeroes = flags & NO_ZEROES != 0;
        self.send(&u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES)).to_be_bytes())
    }

    fn start_tls(&mut self, tls: &NbdTls, host: Option<&str>) -> Result<(), NbdError> {
        let failed = |why| NbdError::Tls { server: self.server.clone(), why };
        let session = tls.begin(host).map_err(failed)?;
        match self.ask(Opt::StartTls, &[])? {
            Ok(_) => {}
            Err(refusal) => return Err(NbdError::Tls { server: self.server.clone(), why: refusal.in_words() }),
        }
        let server = self.server.clone();
        self.channel.start_tls(session).map_err(|error| NbdError::Tls { server, why: error.to_string() })
    }

    /// Asks for an option: what came before the final word, or why it is refused.
    fn ask(&mut self, option: Opt, data: &[u8]) -> Result<Result<Vec<Reply>, Refusal>, NbdError> {
        self.send(&options::request(option, data))?;
        let most = if option == Opt::List { MOST_EXPORTS } else { MOST_REPLIES };
        let mut replies = Vec::new();
        while replies.len() <= most {
            let head = ReplyHead::read(&self.read::<REPLY_HEAD_LEN>()?, option)?;
            let mut payload = vec![0; usize::try_from(head.length).unwrap_or(0)];
            self.channel.receiver.read_exact(&mut payload).map_err(|error| NbdError::of_socket(&error))?;
            match Reply::read(head.kind, &payload)? {
                Reply::Ack => return Ok(Ok(replies)),
                Reply::Refused(refusal) => return Ok(Err(refusal)),
                reply => replies.push(reply),
            }
        }
        Err(NbdError::malformed(format!("more than {most} answers to {}", option.in_words())))
    }

    /// An option that cannot be done without.
    fn insist(&mut self, option: Opt, data: &[u8]) -> Result<Vec<Reply>, NbdError> {
        self.ask(option, data)?.map_err(|refusal| self.refused(option, &refusal))
    }

    fn refused(&self, option: Opt, refusal: &Refusal) -> NbdError {
        let server = self.server.clone();
        match refusal.reason {
            Reason::TlsRequired => NbdError::TlsWanted { server },
            _ => NbdError::Refused { server, what: option.in_words(), why: refusal.in_words() },
        }
    }

    /// The names of the exports ("NBD_OPT_LIST").
    ///
    /// # Errors
    /// [`NbdError::Refused`] by a server that does not tell, and that the connection was lost.
    pub(super) fn list(mut self) -> Result<Vec<String>, NbdError> {
        let replies = self.insist(Opt::List, &[])?;
        let name = |reply| match reply {
            Reply::Server(name) => Some(name),
            _ => None,
        };
        let mut names: Vec<String> = replies.into_iter().filter_map(name).collect();
        names.sort();
        names.dedup();
        self.leave();
        Ok(names)
    }

    /// The metadata contexts of an export that answer to a query ("NBD_OPT_LIST_META_CONTEXT"); none of a server without any.
    pub(super) fn contexts(mut self, export: &str, query: &str) -> Result<Vec<String>, NbdError> {
        if self.ask(Opt::StructuredReply, &[])?.is_err() {
            return Ok(Vec::new());
        }
        let replies = self.ask(Opt::ListMetaContext, &options::meta_data(export, &[query]))?.unwrap_or_default();
        self.leave();
        Ok(contexts_in(replies).into_iter().map(|context| context.name).collect())
    }

    /// A goodbye is polite and not waited for.
    fn leave(mut self) {
        let _ = self.send(&options::request(Opt::Abort, &[]));
    }

    /// Opens an export, with those of the contexts that it has. The channel is in the transmission phase then.
    ///
    /// # Errors
    /// [`NbdError::NoExport`], that something is refused, or that the connection was lost.
    pub(super) fn open(mut self, export: &str, queries: &[&str]) -> Result<(Channel, Opened), NbdError> {
        let structured = self.ask(Opt::StructuredReply, &[])?.is_ok();
        let contexts = if structured { self.select(export, queries)? } else { Vec::new() };
        let (size_bytes, abilities, blocks) = self.go(export)?;
        Ok((self.channel, Opened { size_bytes, abilities, blocks, structured, contexts }))
    }

    fn select(&mut self, export: &str, queries: &[&str]) -> Result<Vec<MetaContext>, NbdError> {
        let replies = self.ask(Opt::SetMetaContext, &options::meta_data(export, queries))?.unwrap_or_default();
        let contexts = contexts_in(replies);
        let is_new = |(n, context): (usize, &MetaContext)| {
            queries.contains(&context.name.as_str())
                && contexts.iter().take(n).all(|other| other.id != context.id && other.name != context.name)
        };
        if contexts.iter().enumerate().all(is_new) {
            return Ok(contexts);
        }
        Err(NbdError::malformed("metadata contexts that were not asked for, or the same twice"))
    }

    fn go(&mut self, export: &str) -> Result<(u64, Abilities, BlockSizes), NbdError> {
        let replies = match self.ask(Opt::Go, &options::go_data(export))? {
            Ok(replies) => replies,
            Err(refusal) if refusal.reason == Reason::Unsupported => return self.export_name(export),
            Err(refusal) if refusal.reason == Reason::Unknown => {
                return Err(NbdError::NoExport {
                    server: self.server.clone(),
                    export: export.to_owned(),
                    said: refusal.said,
                });
            }
            Err(refusal) => return Err(self.refused(Opt::Go, &refusal)),
        };
        let (mut found, mut blocks) = (None, BlockSizes::DEFAULT);
        for reply in replies {
            match reply {
                Reply::Info(Info::Export { size_bytes, flags }) => found = Some((size_bytes, Abilities(flags))),
                Reply::Info(Info::BlockSize(sizes)) => blocks = sizes,
                _ => {}
            }
        }
        let (size_bytes, abilities) =
            found.ok_or_else(|| NbdError::malformed("an export was opened and not described"))?;
        Ok((size_bytes, abilities, blocks))
    }

    /// For servers that know no other way ("NBD_OPT_EXPORT_NAME"): they answer a name that they do not have by hanging up.
    fn export_name(&mut self, export: &str) -> Result<(u64, Abilities, BlockSizes), NbdError> {
        self.send(&options::request(Opt::ExportName, export.as_bytes()))?;
        let hung_up = |error| match error {
            NbdError::Lost(_) => NbdError::NoExport {
                server: self.server.clone(),
                export: export.to_owned(),
                said: ": it hung up".to_owned(),
            },
            other => other,
        };
        let mut described = [0; 10];
        let read = self.channel.receiver.read_exact(&mut described).map_err(|error| NbdError::of_socket(&error));
        read.map_err(hung_up)?;
        let mut fields = super::fields::Fields::new(&described);
        let (size_bytes, flags) = (fields.u64()?, fields.u16()?);
        if !self.no_zeroes {
            self.read::<124>()?;
        }
        Ok((size_bytes, Abilities(flags), BlockSizes::DEFAULT))
    }
}

fn contexts_in(replies: Vec<Reply>) -> Vec<MetaContext> {
    let context = |reply| match reply {
        Reply::Context(context) => Some(context),
        _ => None,
    };
    replies.into_iter().filter_map(context).collect()
}
