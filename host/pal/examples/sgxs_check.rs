//! Reads an exported enclave with Fortanix's `sgxs` crate: `sgxs_check FILE.sgxs FILE.sig`. Prints MRENCLAVE as that crate
//! measures it, then what it finds in the signature: enclave hash, product id, SVN, attribute flags, XFRM, date, MRSIGNER.
use sgxs::sgxs::CanonicalSgxsReader;
use sgxs::sigstruct::{self, EnclaveHash};
use sha2::{Digest, Sha256};

/// SHA-256 as the crate wants it.
struct Hash(Sha256);
impl sgxs::crypto::SgxHashOps for Hash {
    fn new() -> Self {
        Self(Sha256::new())
    }
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    let mut open = || {
        let path = args.next().expect("usage: sgxs_check FILE.sgxs FILE.sig");
        std::io::BufReader::new(std::fs::File::open(path).expect("the file"))
    };
    let (mut stream, mut signature) = (open(), open());
    let mut reader = CanonicalSgxsReader::new(&mut stream);
    let hash = EnclaveHash::from_stream::<_, Hash>(&mut reader).expect("a measurement");
    println!("{}", hex(&hash.hash()));
    let sig = sigstruct::read(&mut signature).expect("a SIGSTRUCT");
    println!("{}", hex(&sig.enclavehash));
    println!(
        "{} {} {:x} {:x} {:x}",
        sig.isvprodid,
        sig.isvsvn,
        sig.attributes.flags.bits(),
        sig.attributes.xfrm,
        sig.date
    );
    println!("{}", hex(&Sha256::digest(sig.modulus)));
}
