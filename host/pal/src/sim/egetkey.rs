//! The simulated CPU's keys: EINIT and EGETKEY for the enclave that runs, under a key that stands in for the fuses.
//!
//! The fuse key is random, one for each user and machine, in a file that only its owner may read
//! (`$XDG_STATE_HOME/occlum/fuse.key`; `OCCLUM_FUSE_KEY` names another). Whoever reads it has the keys of all sealed
//! layers: simulation protects nothing from its own user. Invariants: MRENCLAVE is the one that was measured here; no
//! enclave has keys whose SIGSTRUCT EINIT did not accept.
use crate::{GivenIdentity, PalError};
use occlum_enclave_abi::{CONFIG_KSS, Config};
use occlum_sgx_arch::counter;
use occlum_sgx_arch::keys::{Device, Identity, KEYREQUEST, KeyRequest, SEAL_KEY, derive};
use occlum_sgx_arch::sigstruct::{EXINFO, EinitError, Secs, attributes, einit};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// The CPU's security version.
const CPU_SVN: [u8; 16] = [1; 16];

/// The simulated CPU, as far as keys go.
pub(crate) struct Keys {
    enclave: Identity,
}

impl Keys {
    /// For the enclave that is made of these: ECREATE, as far as keys go, and EINIT.
    pub(crate) fn new(image: &[u8], config: &[u8], given: &GivenIdentity) -> Result<Self, PalError> {
        let c = crate::read(config)?;
        let secs = secs(crate::measure(image, config)?, &c, given)?;
        let enclave = initialize(&given.sigstruct, &secs, &c)?;
        // The LibOS goes by its configuration, whoever signed: on hardware it compares with EREPORT.
        let same = enclave.isv_prod_id == c.identity.product_id
            && enclave.isv_svn == c.identity.svn
            && enclave.family_id == c.identity.family_id
            && enclave.ext_product_id == c.identity.ext_product_id;
        if same { Ok(Self { enclave }) } else { Err(PalError::Identity) }
    }

    /// Serves the OCALL: 0 and the key, the SDM's error code, or a negated errno if the fuse key cannot be had.
    pub(crate) fn serve(&self, data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
        let Some(request) =
            data.first_chunk::<KEYREQUEST>().filter(|_| in_len == KEYREQUEST && out_len >= 16)
        else {
            return -i64::from(libc::EINVAL);
        };
        let device = match device() {
            Ok(device) => device,
            Err(error) => return refused("key", &error),
        };
        match KeyRequest::from_bytes(request).and_then(|r| derive(&r, &self.enclave, &device)) {
            Ok(key) => {
                data[..16].copy_from_slice(&key);
                0
            }
            Err(error) => error as i64,
        }
    }

    /// Serves the OCALL of counters: 0 and the answer, or a negated errno.
    pub(crate) fn serve_counter(&self, data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
        let Some(request) = data
            .first_chunk::<{ counter::REQUEST }>()
            .filter(|r| in_len == r.len() && out_len >= counter::ANSWER)
        else {
            return -i64::from(libc::EINVAL);
        };
        let key = self.counter_key(counter::policy(request));
        match key.and_then(|key| super::counter::serve(&counters()?, &key, request)) {
            Ok(answer) => {
                data[..answer.len()].copy_from_slice(&answer);
                0
            }
            Err(error) => refused("counters", &error),
        }
    }

    /// The key that the enclave derives for its counters: hardware that has some would be given it once, over a channel
    /// that attestation protects. Counters outlive security versions: it is version 0's.
    fn counter_key(&self, policy: u16) -> std::io::Result<[u8; 32]> {
        let request = KeyRequest { name: SEAL_KEY, policy, ..KeyRequest::default() };
        let seal = derive(&request, &self.enclave, &device()?)
            .map_err(|_| std::io::Error::other("the enclave has no seal key"))?;
        Ok(counter::key(&seal))
    }
}

fn device() -> std::io::Result<Device> {
    let fuses = fuses()?;
    Ok(Device {
        key: std::array::from_fn(|i| fuses[i]),
        seal_fuses: std::array::from_fn(|i| fuses[16 + i]),
        owner_epoch: [0; 16],
        cpu_svn: CPU_SVN,
    })
}

/// Tells the user why the simulated CPU does not work, and the enclave that it does not.
fn refused(what: &str, error: &std::io::Error) -> i64 {
    eprintln!("occlum: the simulated CPU's {what}: {} [OC300]", crate::said(error));
    -i64::from(error.raw_os_error().unwrap_or(libc::EIO))
}

/// EINIT.
fn initialize(sigstruct: &[u8], secs: &Secs, c: &Config) -> Result<Identity, PalError> {
    // The lying host of the tests starts what nobody has signed, and says of it what it likes.
    if cfg!(feature = "hostile") && sigstruct.is_empty() {
        let (isv_prod_id, isv_svn) = (c.identity.product_id, c.identity.svn);
        return Ok(Identity { mrenclave: secs.mrenclave, isv_prod_id, isv_svn, ..Identity::default() });
    }
    let whole = sigstruct.first_chunk().filter(|s| s.len() == sigstruct.len());
    whole.ok_or(EinitError::SigStruct).and_then(|s| einit(s, secs)).map_err(PalError::Einit)
}

/// SECS, as ECREATE and the measurement leave it.
fn secs(mrenclave: [u8; 32], c: &Config, given: &GivenIdentity) -> Result<Secs, PalError> {
    let kss = c.flags & CONFIG_KSS != 0;
    if !kss && (given.config_id != [[0; 32]; 2] || given.config_svn != 0) {
        return Err(PalError::Options(
            "CONFIGID and CONFIGSVN need metadata.enable_kss = true in the configuration",
        ));
    }
    let debug = if c.is_debug() { attributes::DEBUG } else { 0 };
    let kss = if kss { attributes::KSS } else { 0 };
    Ok(Secs {
        mrenclave,
        attributes: [attributes::MODE64BIT | debug | kss, attributes::XFRM],
        misc_select: EXINFO,
        config_id: given.config_id,
        config_svn: given.config_svn,
    })
}

fn path() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("OCCLUM_FUSE_KEY") {
        return Some(named.into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    state.or_else(home).map(|p| p.join("occlum/fuse.key"))
}

/// Where the counters of this CPU are: beside its fuse key.
fn counters() -> std::io::Result<PathBuf> {
    let path = path().ok_or_else(|| std::io::Error::other("neither HOME nor OCCLUM_FUSE_KEY is set"))?;
    Ok(path.with_file_name("counters"))
}

/// The fuse key; made at its first use.
fn fuses() -> std::io::Result<[u8; 32]> {
    let path = path().ok_or_else(|| std::io::Error::other("neither HOME nor OCCLUM_FUSE_KEY is set"))?;
    match std::fs::File::open(&path) {
        Ok(mut file) => {
            let meta = file.metadata()?;
            // SAFETY: 1. geteuid has no arguments and cannot fail.
            if meta.mode() & 0o077 != 0 || meta.uid() != unsafe { libc::geteuid() } {
                let text = format!("{} must belong to you and be readable by you only", path.display());
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text));
            }
            let mut key = [0; 32];
            file.read_exact(&mut key)?;
            Ok(key)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => make(&path),
        Err(e) => Err(e),
    }
}

fn make(path: &std::path::Path) -> std::io::Result<[u8; 32]> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let part = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(&key)?;
    file.sync_all()?;
    // The first one that is linked counts, whoever else makes one at the same time.
    let linked = std::fs::hard_link(&part, path);
    std::fs::remove_file(&part)?;
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => {
            std::fs::File::open(path)?.read_exact(&mut key)?;
            Ok(key)
        }
    }
}
