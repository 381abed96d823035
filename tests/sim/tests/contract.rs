//! The pretended kernel keeps the contract that the real one keeps.
use agent_core::kernel_state::Kernel;
use proto_model::resource::Attachment;
use tests_sim::contract::{self, Bench};
use tests_sim::kernel::PretendedKernel;

struct Pretended(PretendedKernel);

impl Bench for Pretended {
    fn kernel(&mut self) -> &mut dyn Kernel {
        &mut self.0
    }
    fn make(&mut self, name: &str) -> Attachment {
        let attachment = Attachment::Named(name.into());
        self.0.add_namespace(&attachment);
        attachment
    }
    fn unmake(&mut self, attachment: &Attachment) {
        self.0.remove_namespace(attachment);
    }
    fn leftovers(&mut self) -> Vec<String> {
        self.0.leftovers()
    }
}

#[test]
fn the_pretended_kernel_keeps_the_contract() {
    let mut bench = Pretended(PretendedKernel::new());
    contract::run(&mut bench);
    assert_eq!(bench.0.sins, Vec::<String>::new());
}
