//! Where headers are read from: a frame in the kernel, or a slice in a test.
use zerocopy::FromBytes;

/// A frame whose bytes can be read as fixed-size headers, and in no other way.
pub trait Bytes {
    /// The header that starts at `at`; none when the frame ends before the header does.
    fn read<T: FromBytes>(&self, at: u32) -> Option<T>;

    /// Bytes of the whole frame.
    fn length(&self) -> u32;
}

#[cfg(not(target_arch = "bpf"))]
impl Bytes for &[u8] {
    fn read<T: FromBytes>(&self, at: u32) -> Option<T> {
        self.get(at as usize..).and_then(|rest| T::read_from_prefix(rest).ok()).map(|(header, _)| header)
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}
