package web

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"deckle/node/access"
	"deckle/node/front"
)

// unknown names who has not said who they are, in the audit log.
const unknown = "nobody"

// keyOpen are the routes that http.open may leave open, by its names.
var keyOpen = map[string]string{"livez": "/livez", "readyz": "/readyz", "metrics": "/metrics"}

// admit says whether a request may have what a route gives, after it has said who sends it. If not, it has answered.
func (h *handler) admit(w http.ResponseWriter, r *http.Request, to *route) (done func(), ok bool) {
	c := callOf(r)
	addr := front.Who{Addr: front.Client(c.visit.Client)}
	if !h.access.Required() && !h.insecure && front.Forwarded(r) {
		// Without authentication whoever reaches this machine's loopback is an administrator. A proxy that nobody has
		// named would make everybody that.
		h.deny(w, r, "forbidden", "requests through a proxy are not taken without authentication (http.auth)")
		return nil, false
	}
	if need := to.need(); need > access.Nobody {
		p, err := h.access.Identify(r, h.from(r))
		open := h.open != nil &&
			slices.ContainsFunc(h.open(), func(name string) bool { return keyOpen[name] == to.path })
		switch {
		case err == nil:
			c.principal = *p
		case errors.Is(err, access.ErrNone) && open:
		default:
			if _, refused := h.gate.Take(addr, front.Login); refused != nil {
				h.refuse(w, r, refused)
				return nil, false
			}
			h.denyUnknown(w, r, err)
			return nil, false
		}
		if !open && c.principal.Role < need {
			h.gate.Metrics().Refused(front.WhyRole)
			h.deny(w, r, "role", fmt.Sprintf("the role %s is needed, and this is %s", need, c.principal.Role))
			return nil, false
		}
		if c.principal.Held() && to.brands == closed && !open {
			h.gate.Metrics().Refused(front.WhyBrand)
			h.deny(w, r, "brand", "this concerns all brands, and the role is held to some")
			return nil, false
		}
		if h.access.Required() && c.principal.Role > access.Nobody {
			addr = front.Who{Name: c.principal.Who}
		}
	}
	done, refused := h.gate.Take(addr, to.class)
	if refused != nil {
		h.refuse(w, r, refused)
		return nil, false
	}
	return done, true
}

// denyUnknown answers a request of which it is not known who sends it.
func (h *handler) denyUnknown(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, access.ErrAway) { // the rest of the error is for the operator, whom a condition tells
		h.deny(w, r, "issuer-away", access.ErrAway.Error()+"; try again in half a minute, or with another token")
		return
	}
	h.gate.Metrics().Refused(front.WhyUnauthenticated)
	w.Header().Set("WWW-Authenticate", "Bearer")
	h.deny(w, r, "unauthenticated", err.Error())
}

// refuse answers what the gate has refused.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, why *front.Refusal) {
	if why.Why == front.WhyHost {
		h.deny(w, r, "host-unknown", why.Detail)
		return
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(why.Retry.Seconds()))))
	h.fail(w, r, "too-many-requests", why.Detail)
}

// from says where a request comes from.
func (h *handler) from(r *http.Request) access.From {
	c := callOf(r)
	return access.From{Machine: fromMachine(r) && !c.visit.Via.IsValid() && !front.Forwarded(r),
		Secure: r.TLS != nil || c.visit.Via.IsValid() && r.Header.Get("X-Forwarded-Proto") == "https"}
}

// fromMachine says whether a connection comes from this machine: over loopback, or from the very address that has taken
// it, since http.listen may name no other.
func fromMachine(r *http.Request) bool {
	peer := front.AddressOf(r.RemoteAddr)
	own := netip.Addr{}
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		own = front.AddressOf(at.String())
	}
	return peer.IsValid() && (peer.IsLoopback() || peer == own)
}

// deny answers a request that is not let in, with a line in the audit log.
func (h *handler) deny(w http.ResponseWriter, r *http.Request, id, detail string) {
	if h.audit != nil {
		h.audit.Refused(h.line(r, "", "", problems[id].status, "denied", detail))
	}
	h.fail(w, r, id, detail)
}

// line is a line of the audit log about a request.
func (h *handler) line(r *http.Request, verb, target string, status int, result, detail string) access.Line {
	c := callOf(r)
	if verb == "" {
		verb = r.Method + " " + c.route
	}
	via := ""
	if c.visit.Via.IsValid() {
		via = c.visit.Via.String()
	}
	client := ""
	if c.visit.Client.IsValid() {
		client = c.visit.Client.String()
	}
	return access.Line{Request: c.id, Who: c.principal.Who, Name: c.principal.Name, Role: c.principal.Role.String(),
		From: client, Via: via, Verb: verb, Target: target, Status: status, Result: result, Detail: detail}
}

// record writes a line, and has it on disk if sync is set. If it cannot, the request is answered, and false returned:
// what is not written down is not done.
func (h *handler) record(w http.ResponseWriter, r *http.Request, l access.Line, sync bool) bool {
	if h.audit == nil {
		return true
	}
	if err := h.audit.Write(l, sync); err != nil {
		h.log.Error("the audit log cannot be written", "request", l.Request, "error", err)
		h.fail(w, r, "audit-unavailable", "the audit log cannot be written, so this is not done; the log says why")
		return false
	}
	return true
}
