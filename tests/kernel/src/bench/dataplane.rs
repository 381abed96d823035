//! The compiled programs, loaded but attached nowhere, with their maps open to the test.
use crate::bench::bpf::{self, Ran};
use anyhow::{Context, Result, bail};
use aya::maps::{Map, MapData};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use nix::mount::{MsFlags, mount};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Debug)]
pub struct Dataplane {
    object: Ebpf,
    cpus: usize,
}

/// Instructions as the verifier counted them for one program.
#[derive(Debug)]
pub struct Verified {
    pub program: String,
    pub instructions: u32,
    /// Bytes of machine code.
    pub jited: u32,
}

impl Dataplane {
    /// Every program through the verifier.
    ///
    /// # Errors
    /// No root, no object, or what the verifier says.
    pub fn load() -> Result<Self> {
        Self::load_file(&object_file())
    }

    /// # Errors
    /// As [`Dataplane::load`].
    pub fn load_file(path: &PathBuf) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("this test loads BPF programs and needs root; run: sudo -E cargo xtask test packets");
        }
        let bytes = std::fs::read(path)
            .with_context(|| format!("{} is not there; run: cargo xtask ebpf", path.display()))?;
        let mut object = EbpfLoader::new().load(&bytes).context("loading the BPF object")?;
        load_all(&mut object)?;
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
        Ok(Self { object, cpus })
    }

    /// The same programs, dry, over the maps of this one; as the agent loads them to ask them.
    ///
    /// # Errors
    /// No bpffs, or what the kernel says.
    pub fn dry(&self) -> Result<Self> {
        let pins = Pins::new()?;
        let mut loader = EbpfLoader::new();
        loader.override_global(ebpf_abi::verdict::DRY, &1u32, true);
        for name in ebpf_abi::maps::name::MAPS {
            let map = self.object.map(name).with_context(|| format!("no map {name}"))?;
            let pin = pins.0.join(name);
            data(map).with_context(|| format!("map {name} is of an unknown kind"))?.pin(&pin)?;
            loader.map_pin_path(name, pin);
        }
        let bytes = std::fs::read(object_file())?;
        let mut object = loader.load(&bytes).context("loading the BPF object dry")?;
        load_all(&mut object)?;
        Ok(Self { object, cpus: self.cpus })
    }

    /// # Errors
    /// What the kernel says.
    pub fn verified(&self) -> Result<Vec<Verified>> {
        self.object
            .programs()
            .map(|(name, program)| {
                let info = program.info()?;
                Ok(Verified {
                    program: name.to_owned(),
                    instructions: info.verified_instruction_count().unwrap_or(0),
                    jited: info.size_jitted(),
                })
            })
            .collect()
    }

    /// # Errors
    /// No such program.
    pub fn program(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let program = self.object.program(name).with_context(|| format!("no program {name}"))?;
        Ok(match program {
            Program::SchedClassifier(program) => program.fd()?.as_fd(),
            Program::Xdp(program) => program.fd()?.as_fd(),
            _ => bail!("{name} is of a kind that this project does not have"),
        })
    }

    /// The object itself, to attach its programs.
    pub fn object_mut(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// # Errors
    /// No such map.
    pub fn map(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let map = self.object.map(name).with_context(|| format!("no map {name}"))?;
        Ok(data(map).with_context(|| format!("map {name} is of an unknown kind"))?.fd().as_fd())
    }

    /// # Errors
    /// What the kernel says.
    pub fn put<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
        &self,
        map: &str,
        key: &K,
        value: &V,
    ) -> Result<()> {
        bpf::update(self.map(map)?, key.as_bytes(), value.as_bytes()).with_context(|| map.to_owned())
    }

    /// # Errors
    /// What the kernel says.
    pub fn get<K: IntoBytes + Immutable, V: FromBytes>(&self, map: &str, key: &K) -> Result<Option<V>> {
        let Some(bytes) = bpf::lookup(self.map(map)?, key.as_bytes(), size_of::<V>())? else {
            return Ok(None);
        };
        V::read_from_bytes(&bytes).map(Some).map_err(|_| anyhow::anyhow!("{map} holds other values"))
    }

    /// False when the key was absent.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove<K: IntoBytes + Immutable>(&self, map: &str, key: &K) -> Result<bool> {
        bpf::delete(self.map(map)?, key.as_bytes())
    }

    /// A value of a per-CPU array, on every CPU.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn per_cpu<V: FromBytes>(&self, map: &str, index: u32) -> Result<Vec<V>> {
        let stride = size_of::<V>().next_multiple_of(8);
        let bytes = bpf::lookup(self.map(map)?, index.as_bytes(), stride * self.cpus)?.context("no slot")?;
        bytes
            .chunks_exact(stride)
            .map(|one| {
                V::read_from_prefix(one)
                    .map(|(v, _)| v)
                    .map_err(|_| anyhow::anyhow!("{map} holds other values"))
            })
            .collect()
    }

    /// Sets a value of a per-CPU array on every CPU.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put_per_cpu<V: IntoBytes + Immutable>(&self, map: &str, index: u32, value: &V) -> Result<()> {
        let mut one = value.as_bytes().to_vec();
        one.resize(one.len().next_multiple_of(8), 0);
        bpf::update(self.map(map)?, index.as_bytes(), &one.repeat(self.cpus))
    }

    /// # Errors
    /// What the kernel says.
    pub fn run(&self, program: &str, frame: &[u8]) -> Result<Ran> {
        bpf::test_run(self.program(program)?, frame, &[], 1)
    }

    /// As a superpacket that is to be cut into segments of so many bytes; 0: as a plain packet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run_segmented(&self, program: &str, frame: &[u8], segment: u32) -> Result<Ran> {
        // `gso_segs` and `gso_size` in `struct __sk_buff`.
        const SEGMENTS: usize = 164;
        const SIZE: usize = 176;
        let mut context = [0u8; 192];
        context[SIZE..SIZE + 4].copy_from_slice(&segment.to_ne_bytes());
        context[SEGMENTS..SEGMENTS + 4].copy_from_slice(&u32::from(segment != 0).to_ne_bytes());
        bpf::test_run(self.program(program)?, frame, &context, 1)
    }
}

fn load_all(object: &mut Ebpf) -> Result<()> {
    for (name, program) in object.programs_mut() {
        match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            _ => bail!("{name} is of a kind that this project does not have"),
        }
        .with_context(|| format!("the verifier refuses {name}"))?;
    }
    Ok(())
}

/// A directory on the bpffs for as long as a load takes.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let bpffs = Path::new("/sys/fs/bpf");
        if nix::sys::statfs::statfs(bpffs)?.filesystem_type() != nix::sys::statfs::BPF_FS_MAGIC {
            mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
                .context("mounting bpffs")?;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = bpffs.join(format!("fw-dry-{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // What is left is seen by the tests that compare the host before and after.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `FOREWEAVE_BPF_OBJECT`, or where `cargo xtask ebpf` puts it.
pub fn object_file() -> PathBuf {
    std::env::var_os("FOREWEAVE_BPF_OBJECT").map_or_else(|| built("foreweave-dataplane"), PathBuf::from)
}

/// An object as built in this workspace.
pub fn built(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bpf/bpfel-unknown-none/release"))
        .join(name)
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}
