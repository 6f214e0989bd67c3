"""Offers as real clients send them (shape from their sources and traces, addresses from RFC 5737), and RFC examples."""

from __future__ import annotations

from offhook.sdp.description import SessionDescription, parse


def sdp(text: str) -> bytes:
    """Readable lines to what goes on the wire."""
    return "".join(f"{line.strip()}\r\n" for line in text.strip().splitlines()).encode()


def described(text: str) -> SessionDescription:
    return parse(sdp(text))


def audio_offer(media: str, *, connection: str = "IN IP4 192.0.2.10", session: str = "") -> SessionDescription:
    """An offer with these lines from its ``m=`` on, and these between ``t=`` and ``m=``."""
    return described(
        f"v=0\no=- 1 1 IN IP4 192.0.2.10\ns=-\nc={connection}\nt=0 0\n{session}\n{media}".replace("\n\n", "\n")
    )


LINPHONE = sdp("""
v=0
o=alice 3823 2127 IN IP4 192.0.2.10
s=Talk
c=IN IP4 192.0.2.10
t=0 0
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics
a=record:off
m=audio 7078 RTP/AVP 96 97 98 0 8 18 101 99 100
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:97 speex/16000
a=fmtp:97 vbr=on
a=rtpmap:98 speex/8000
a=fmtp:98 vbr=on
a=fmtp:18 annexb=yes
a=rtpmap:101 telephone-event/48000
a=rtpmap:99 telephone-event/16000
a=rtpmap:100 telephone-event/8000
a=rtcp-fb:* trr-int 1000
a=rtcp-fb:* ccm tmmbr
m=video 9078 RTP/AVP 96
a=rtpmap:96 VP8/90000
a=rtcp-fb:* trr-int 1000
""")

BARESIP = sdp("""
v=0
o=- 3876421034 1207342181 IN IP4 192.0.2.11
s=-
c=IN IP4 192.0.2.11
t=0 0
a=tool:baresip 1.0.0
m=audio 16906 RTP/AVP 0 8 101
b=AS:125
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=rtcp:16907
a=sendrecv
a=label:1
a=rtcp-rsize
a=ssrc:2206420121 cname:sip:bob@example.net
a=ptime:20
""")

ASTERISK = sdp("""
v=0
o=- 1731112843 1731112843 IN IP4 192.0.2.12
s=Asterisk
c=IN IP4 192.0.2.12
t=0 0
m=audio 11552 RTP/AVP 8 0 9 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:9 G722/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=maxptime:140
a=sendrecv
""")

CARRIER = sdp("""
v=0
o=root 1809366012 1809366012 IN IP4 198.51.100.20
s=SIP Trunk Media Gateway
c=IN IP4 198.51.100.20
t=0 0
m=audio 10230 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=silenceSupp:off - - - -
a=ptime:20
a=sendrecv
""")

SIPP = sdp("""
v=0
o=user1 53655765 2353687637 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 6000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
""")

BROWSER = sdp("""
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=msid-semantic: WMS stream
m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:4ZcD
a=ice-pwd:2/1muCWoOi3uLifh0NuRHlCY
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:126 telephone-event/8000
""")

BARESIP_SRTP = sdp("""
v=0
o=- 3876421034 1207342181 IN IP4 192.0.2.11
s=-
c=IN IP4 192.0.2.11
t=0 0
a=tool:baresip 1.0.0
m=audio 16906 RTP/SAVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=rtcp:16907
a=sendrecv
a=ptime:20
a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw
a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw|2^20|1:4
a=crypto:3 AEAD_AES_128_GCM inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3OA== UNENCRYPTED_SRTCP
a=crypto:4 AEAD_AES_256_GCM inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ= WSH=128
""")

CLIENTS = {
    "linphone": LINPHONE,
    "baresip": BARESIP,
    "baresip with SRTP": BARESIP_SRTP,
    "asterisk": ASTERISK,
    "carrier": CARRIER,
    "sipp": SIPP,
    "browser": BROWSER,
}

RFC_8866_EXAMPLE = sdp("""
v=0
o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1
s=Call to John Smith
i=SDP Offer #1
u=http://www.jdoe.example.com/home.html
e=Jane Doe <jane@jdoe.example.com>
p=+1 617 555-6011
c=IN IP4 198.51.100.1
t=0 0
m=audio 49170 RTP/AVP 0
m=audio 49180 RTP/AVP 0
m=video 51372 RTP/AVP 99
c=IN IP6 2001:db8::2
a=rtpmap:99 h263-1998/90000
""")

RFC_4566_EXAMPLE = sdp("""
v=0
o=jdoe 2890844526 2890842807 IN IP4 10.47.16.5
s=SDP Seminar
i=A Seminar on the session description protocol
u=http://www.example.com/seminars/sdp.pdf
e=j.doe@example.com (Jane Doe)
c=IN IP4 224.2.17.12/127
t=2873397496 2873404696
a=recvonly
m=audio 49170 RTP/AVP 0
m=video 51372 RTP/AVP 99
a=rtpmap:99 h263-1998/90000
""")

RFC_3264_OFFER = sdp("""
v=0
o=alice 2890844526 2890844526 IN IP4 host.anywhere.com
s=
c=IN IP4 host.anywhere.com
t=0 0
m=audio 49170 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 51372 RTP/AVP 31
a=rtpmap:31 H261/90000
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
""")

RFC_3264_SECOND_OFFER = sdp("""
v=0
o=bob 2890844730 2890844731 IN IP4 host.example.com
s=
c=IN IP4 host.example.com
t=0 0
m=audio 65422 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 0 RTP/AVP 31
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
m=audio 51434 RTP/AVP 110
a=rtpmap:110 telephone-events/8000
a=recvonly
""")

RFC_3264_ONE_OF_N = sdp("""
v=0
o=alice 2890844526 2890844526 IN IP4 host.anywhere.com
s=
c=IN IP4 host.anywhere.com
t=0 0
m=audio 62986 RTP/AVP 0 4 18
a=rtpmap:0 PCMU/8000
a=rtpmap:4 G723/8000
a=rtpmap:18 G729/8000
a=inactive
""")

RFC_EXAMPLES = {
    "RFC 8866 §5": RFC_8866_EXAMPLE,
    "RFC 4566 §5": RFC_4566_EXAMPLE,
    "RFC 3264 §10.1": RFC_3264_OFFER,
    "RFC 3264 §10.1, second": RFC_3264_SECOND_OFFER,
    "RFC 3264 §10.2": RFC_3264_ONE_OF_N,
}
