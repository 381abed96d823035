//! The suite that the pretended kernel passes too.
use crate::world::{World, within};
use agent_core::kernel_state::Kernel;
use agent_daemon::kernel::Linux;
use proto_model::resource::Attachment;
use tests_sim::contract::{self, Bench};

struct Real<'a> {
    linux: Linux,
    world: &'a mut World,
}

impl Bench for Real<'_> {
    fn kernel(&mut self) -> &mut dyn Kernel {
        &mut self.linux
    }
    fn make(&mut self, name: &str) -> Attachment {
        self.world.make(name)
    }
    fn unmake(&mut self, attachment: &Attachment) {
        self.world.unmake(attachment);
    }
    fn leftovers(&mut self) -> Vec<String> {
        self.world.leftovers()
    }
}

#[test]
fn the_real_kernel_keeps_the_contract() {
    within(|world| {
        let linux = world.linux();
        contract::run(&mut Real { linux, world });
    });
}
