//! Looks at code without knowing where its instructions begin: does a call end here, does decoding from there come here?
//! Neighbours: `lib`.
use iced_x86::{Code, Decoder, DecoderOptions};

/// Bytes of the longest call without prefixes that mean nothing: opcode, ModRM, SIB, disp32.
pub const LONGEST_CALL: usize = 7;
const SHORTEST_CALL: usize = 2;

/// Do some of the last bytes decode as a near call?
pub fn ends_with_call(bytes: &[u8]) -> bool {
    (SHORTEST_CALL..=LONGEST_CALL).any(|len| {
        let Some(call) = bytes.len().checked_sub(len).and_then(|at| bytes.get(at..)) else { return false };
        let i = Decoder::new(64, call, DecoderOptions::NONE).decode();
        i.len() == len && matches!(i.code(), Code::Call_rel32_64 | Code::Call_rm64)
    })
}

/// Does decoding from the first byte on come to an instruction at `offset`?
pub fn decodes_to(bytes: &[u8], offset: usize) -> bool {
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    while decoder.position() < offset {
        if !decoder.can_decode() || decoder.decode().is_invalid() {
            return false;
        }
    }
    decoder.position() == offset && offset < bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_comes_to_instructions_only() {
        let code = [0x0f, 0x1f, 0x40, 0x00, 0x89, 0xc8, 0xc3]; // nopl; mov %ecx,%eax; ret
        let reached: Vec<usize> = (0..10).filter(|at| decodes_to(&code, *at)).collect();
        assert_eq!(reached, [0, 4, 6]);
        assert!(!decodes_to(&[0x06, 0x90], 1), "an invalid instruction ends it");
    }

    #[test]
    fn calls_of_every_length_count_and_nothing_else() {
        const CALLS: &[&[u8]] = &[
            &[0xff, 0xd0],                               // call *%rax
            &[0x41, 0xff, 0xd3],                         // call *%r11
            &[0xff, 0x14, 0xc8],                         // call *(%rax,%rcx,8)
            &[0xff, 0x50, 0x18],                         // call *0x18(%rax)
            &[0xff, 0x54, 0x24, 8],                      // call *8(%rsp)
            &[0xe8, 1, 2, 3, 4],                         // call rel32
            &[0xff, 0x15, 1, 2, 3, 4],                   // call *x(%rip)
            &[0xff, 0x14, 0xc5, 1, 2, 3, 4],             // call *x(,%rax,8)
            &[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0], // behind other code
            &[0x64, 0xff, 0x14, 0x25, 0x10, 0, 0, 0],    // call *%fs:0x10
        ];
        const OTHERS: &[&[u8]] = &[
            &[],
            &[0xd0],
            &[0xff, 0xe0],             // jmp *%rax
            &[0xff, 0xf0],             // push %rax
            &[0xe9, 1, 2, 3, 4],       // jmp rel32
            &[0xe8, 1, 2, 3],          // cut
            &[0xe8, 1, 2, 3, 4, 0x90], // a nop behind it
            &[0xff, 0x15, 1, 2, 3],    // cut
            &[0x90; 16],
        ];
        assert!(CALLS.iter().all(|b| ends_with_call(b)));
        for b in OTHERS {
            assert!(!ends_with_call(b), "{b:02x?}");
        }
    }
}
