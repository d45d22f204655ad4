//! Brings network interfaces up by rtnetlink messages: the classic ioctls have no safe wrapper.
//! rtnetlink(7) has the messages.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Address, prefix length and router that QEMU's user network has for its first guest.
pub(super) const GUEST: (Ipv4Addr, u8, Ipv4Addr) =
    (Ipv4Addr::new(10, 0, 2, 15), 24, Ipv4Addr::new(10, 0, 2, 2));

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// Brings an interface up, with an address and a default route if given.
pub(super) fn bring_up(name: &str, address: Option<(Ipv4Addr, u8, Ipv4Addr)>) -> Result<()> {
    let index = if_nametoindex(name).with_context(|| format!("no network interface {name}"))?;
    if let Some((local, prefix, _)) = address {
        let mut message = vec![AF_INET, prefix, 0, 0];
        message.extend_from_slice(&index.to_ne_bytes());
        push_address(&mut message, IFA_LOCAL, local);
        request(RTM_NEWADDR, &message).with_context(|| format!("address of {name}"))?;
    }
    let mut message = vec![0; 4];
    for field in [index, IFF_UP, IFF_UP] {
        message.extend_from_slice(&field.to_ne_bytes());
    }
    request(RTM_NEWLINK, &message).with_context(|| format!("bring {name} up"))?;
    if let Some((_, _, router)) = address {
        let mut message = vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0];
        push_address(&mut message, RTA_GATEWAY, router);
        request(RTM_NEWROUTE, &message).with_context(|| format!("route by {name}"))?;
    }
    Ok(())
}

fn push_address(message: &mut Vec<u8>, kind: u16, address: Ipv4Addr) {
    message.extend_from_slice(&8_u16.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&address.octets());
}

/// Sends one message and waits for its acknowledgement.
fn request(kind: u16, body: &[u8]) -> Result<()> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut message = Vec::new();
    message.extend_from_slice(&u32::try_from(16 + body.len())?.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE).to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // Sequence number and sender: there is one question, and the kernel knows us.
    message.extend_from_slice(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty()).context("send")?;

    let mut answer = [0; 512];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).context("recv")?;
    // Header of 16 bytes, then the negated errno, zero for success.
    match answer[..length].get(16..).and_then(|rest| rest.first_chunk::<4>()) {
        Some(&code) => match i32::from_ne_bytes(code) {
            0 => Ok(()),
            code => Err(Errno::from_raw(-code).into()),
        },
        None => bail!("short answer of {length} bytes"),
    }
}
