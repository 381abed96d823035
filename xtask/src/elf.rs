//! Reads a BPF object (ELF64, little-endian): its programs, their instructions, and how deep their stacks go.
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};

const FUNCTION: u8 = 2;
const CALL: u8 = 0x85;
/// `src_reg` of a call to another function of the object (linux/bpf.h: BPF_PSEUDO_CALL).
const PSEUDO_CALL: u8 = 1;
const R10: u8 = 10;
const WIDTH: usize = 8;

/// A program as compiled; the kernel counts what the verifier walks, which is another number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) section: String,
    /// Its own, and those of every function that it reaches.
    pub(crate) instructions: usize,
    /// Frames are rounded up to 32 bytes, as the verifier does, and added along the deepest chain of calls.
    pub(crate) deepest_stack: usize,
    pub(crate) own_stack: usize,
    pub(crate) functions: usize,
}

#[derive(Debug)]
struct Section {
    name: String,
    kind: u32,
    offset: usize,
    size: usize,
    link: usize,
    info: usize,
}

#[derive(Debug)]
struct Function {
    name: String,
    section: usize,
    start: usize,
    size: usize,
    global: bool,
}

#[derive(Debug)]
pub(crate) struct Object<'a> {
    bytes: &'a [u8],
    sections: Vec<Section>,
    functions: Vec<Function>,
    /// (section, offset of the call) → symbol's (section, value).
    relocations: BTreeMap<(usize, usize), (usize, usize)>,
}

impl<'a> Object<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
            bail!("not a little-endian ELF64 file");
        }
        let mut object =
            Self { bytes, sections: Vec::new(), functions: Vec::new(), relocations: BTreeMap::new() };
        object.read_sections()?;
        object.read_symbols()?;
        Ok(object)
    }

    /// Entry points: global functions outside `.text`.
    pub(crate) fn programs(&self) -> Result<Vec<Program>> {
        let entry = |f: &&Function| f.global && self.sections[f.section].name != ".text";
        self.functions.iter().filter(entry).map(|function| self.program(function)).collect()
    }

    fn program(&self, entry: &Function) -> Result<Program> {
        let mut seen = BTreeSet::new();
        let deepest_stack = self.walk(entry, &mut seen, 0)?;
        let sizes = self.functions.iter().filter(|f| seen.contains(&(f.section, f.start))).map(|f| f.size);
        Ok(Program {
            name: entry.name.clone(),
            section: self.sections[entry.section].name.clone(),
            instructions: sizes.sum::<usize>() / WIDTH,
            deepest_stack,
            own_stack: self.stack(entry)?,
            functions: seen.len(),
        })
    }

    /// Stack of the deepest chain of calls from `function`; notes every function on the way.
    fn walk(&self, function: &Function, seen: &mut BTreeSet<(usize, usize)>, depth: usize) -> Result<usize> {
        if depth > 8 {
            bail!("{}: calls nest deeper than the 8 frames that the verifier allows", function.name);
        }
        seen.insert((function.section, function.start));
        let mut below = 0;
        for callee in self.callees(function)? {
            below = below.max(self.walk(callee, seen, depth + 1)?);
        }
        Ok(self.stack(function)?.max(1).next_multiple_of(32) + below)
    }

    fn code(&self, function: &Function) -> Result<&'a [u8]> {
        let start = self.sections[function.section].offset + function.start;
        self.bytes
            .get(start..start + function.size)
            .with_context(|| format!("{} is cut short", function.name))
    }

    /// The lowest offset from the frame pointer that is stored to, loaded from, or pointed at.
    fn stack(&self, function: &Function) -> Result<usize> {
        let mut deepest = 0i64;
        let mut copy_of_r10 = None;
        for instruction in self.code(function)?.chunks_exact(WIDTH) {
            let [opcode, registers, low, high, a, b, c, d] = *instruction else { continue };
            let (destination, source) = (registers & 0xf, registers >> 4);
            let offset = i64::from(i16::from_le_bytes([low, high]));
            let immediate = i64::from(i32::from_le_bytes([a, b, c, d]));
            match opcode & 0x07 {
                // LDX reads through the source, ST and STX write through the destination.
                1 if source == R10 => deepest = deepest.min(offset),
                2 | 3 if destination == R10 => deepest = deepest.min(offset),
                // r = r10 followed by r += -n is how an address on the stack is made.
                7 if opcode == 0xbf && source == R10 => copy_of_r10 = Some(destination),
                7 if opcode == 0x07 && copy_of_r10 == Some(destination) => {
                    deepest = deepest.min(immediate);
                    copy_of_r10 = None;
                }
                _ => {}
            }
        }
        usize::try_from(-deepest).context("stack offsets above the frame")
    }

    fn callees(&self, function: &Function) -> Result<Vec<&Function>> {
        let mut found = Vec::new();
        for (index, instruction) in self.code(function)?.chunks_exact(WIDTH).enumerate() {
            let [opcode, registers, _, _, a, b, c, d] = *instruction else { continue };
            if opcode != CALL || registers >> 4 != PSEUDO_CALL {
                continue;
            }
            let at = function.start + index * WIDTH;
            let immediate = i64::from(i32::from_le_bytes([a, b, c, d]));
            // Relocated: symbol plus (immediate + 1) instructions. Else relative to the next instruction.
            let (section, start) = match self.relocations.get(&(function.section, at)) {
                Some((section, value)) => (*section, *value as i64 + (immediate + 1) * WIDTH as i64),
                None => (function.section, at as i64 + (immediate + 1) * WIDTH as i64),
            };
            let callee = self.functions.iter().find(|f| f.section == section && f.start as i64 == start);
            found.push(callee.with_context(|| format!("{}: a call leads nowhere", function.name))?);
        }
        Ok(found)
    }

    fn read_sections(&mut self) -> Result<()> {
        let table = self.number(0x28, 8)?;
        let (width, count, names) = (self.number(0x3a, 2)?, self.number(0x3c, 2)?, self.number(0x3e, 2)?);
        let names = self.number(table + names * width + 0x18, 8)?;
        for index in 0..count {
            let at = table + index * width;
            self.sections.push(Section {
                name: self.text(names + self.number(at, 4)?)?,
                kind: self.number(at + 4, 4)? as u32,
                offset: self.number(at + 0x18, 8)?,
                size: self.number(at + 0x20, 8)?,
                link: self.number(at + 0x28, 4)?,
                info: self.number(at + 0x2c, 4)?,
            });
        }
        Ok(())
    }

    fn read_symbols(&mut self) -> Result<()> {
        const SYMBOLS: u32 = 2;
        const RELOCATIONS: u32 = 9;
        let table = self.sections.iter().find(|s| s.kind == SYMBOLS).context("no symbol table")?;
        let (offset, count) = (table.offset, table.size / 24);
        let names = self.sections.get(table.link).context("no symbol names")?.offset;
        let mut symbols = Vec::new();
        for at in (0..count).map(|index| offset + index * 24) {
            let info = self.number(at + 4, 1)? as u8;
            let (section, value) = (self.number(at + 6, 2)?, self.number(at + 8, 8)?);
            symbols.push((section, value));
            if info & 0xf == FUNCTION && section < self.sections.len() {
                let name = self.text(names + self.number(at, 4)?)?;
                let size = self.number(at + 16, 8)?;
                self.functions.push(Function { name, section, start: value, size, global: info >> 4 != 0 });
            }
        }
        for section in self.sections.iter().filter(|section| section.kind == RELOCATIONS) {
            for at in (0..section.size / 16).map(|index| section.offset + index * 16) {
                let symbol = symbols.get(self.number(at + 12, 4)?).context("a relocation names no symbol")?;
                self.relocations.insert((section.info, self.number(at, 8)?), *symbol);
            }
        }
        Ok(())
    }

    fn number(&self, at: usize, width: usize) -> Result<usize> {
        let bytes = self.bytes.get(at..at + width).with_context(|| format!("cut short at byte {at}"))?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn text(&self, at: usize) -> Result<String> {
        let rest = self.bytes.get(at..).context("a name lies outside the file")?;
        let end = rest.iter().position(|byte| *byte == 0).context("a name does not end")?;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused() {
        for bytes in [&b""[..], b"\x7fELF", b"\x7fELF\x01\x01rest", &[0; 64]] {
            assert!(Object::parse(bytes).is_err());
        }
    }

    #[test]
    fn a_cut_object_is_an_error_and_no_panic() {
        let mut header = vec![0u8; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[0x28] = 0xff;
        header[0x3c] = 3;
        assert!(Object::parse(&header).is_err());
    }

    /// One function in one section: `r1 = r10; r1 += -40; *(r10 - 8) = 1; exit`.
    #[test]
    fn the_stack_is_as_deep_as_the_lowest_address_made() {
        let code: Vec<u8> = [
            [0xbf, 0xa1, 0, 0, 0, 0, 0, 0],
            [0x07, 0x01, 0, 0, 0xd8, 0xff, 0xff, 0xff],
            [0x7a, 0x0a, 0xf8, 0xff, 1, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let object = Object {
            bytes: &code,
            sections: vec![Section { name: "xdp".into(), kind: 1, offset: 0, size: 32, link: 0, info: 0 }],
            functions: vec![Function { name: "f".into(), section: 0, start: 0, size: 32, global: true }],
            relocations: BTreeMap::new(),
        };
        let programs = object.programs().expect("programs");
        assert_eq!(programs[0].own_stack, 40);
        assert_eq!(programs[0].deepest_stack, 64);
        assert_eq!(programs[0].instructions, 4);
    }
}
