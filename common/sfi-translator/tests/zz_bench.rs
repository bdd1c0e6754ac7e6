mod common;
use common::config;
use common::machine::{End, Machine, State};
use occlum_sfi_spec::reason;
#[test]
fn bench() {
    let bin = std::fs::read("/tmp/twT/bench/b.bin").unwrap();
    let start: u32 = std::env::var("START").ok().and_then(|v| u32::from_str_radix(&v, 16).ok()).unwrap();
    let lim = bin.len().min(0x80000);
    Machine::with(|m| {
        m.set_tls(0x300000, 0x310000);
        for (which, n) in [(0u64, 35u64), (1, 400), (2, 300), (3, 30_000_000), (4, 10_000_000), (5, 400)] {
            let mut best = [f64::MAX; 2];
            for round in 0..5 {
                m.write(0x100000, &bin);
                let mut s = State::new(start);
                s.gpr[7] = which; s.gpr[6] = n; s.gpr[4] = 0x3f0_0008;
                let t = std::time::Instant::now();
                let (a, _) = m.run_native(&s, 0x300000, 0x310000);
                best[0] = best[0].min(t.elapsed().as_secs_f64());
                if round == 0 { m.reset_code(); m.fill_tables(0x100000, 0x4000); }
                let mut at = match m.map.direct.get(&start) { Some(&d) => d, None => m.translate(&config(), start, &bin[(start - 0x100000) as usize..lim]).1 };
                let t = std::time::Instant::now();
                let b = loop {
                    let (o, end) = m.run(&s, at, 0);
                    s = o;
                    let pc = match end {
                        End::Stub(reason::LINK, i) => { let (t, p) = m.exit_target(i);
                            let d = match m.map.direct.get(&t) { Some(&d) => d, None => m.translate(&config(), t, &bin[(t - 0x100000) as usize..lim]).1 };
                            m.link(p, d); at = d; continue; }
                        End::Stub(reason::MISS_RET, _) => u32::from_le_bytes(m.read(s.gpr[4] as u32 - 8, 4).0.try_into().unwrap()),
                        End::Stub(reason::MISS_CALL, _) => m.target(),
                        End::Stub(reason::EMULATE, _) => break s.clone(),
                        e => panic!("{e:x?}"),
                    };
                    at = m.translate(&config(), pc, &bin[(pc - 0x100000) as usize..lim]).0;
                };
                best[1] = best[1].min(t.elapsed().as_secs_f64());
                assert_eq!(a.gpr[0], b.gpr[0]);
            }
            println!("{which}: native {:.3} translated {:.3} ratio {:.2}", best[0], best[1], best[1] / best[0]);
        }
    });
}
