package web

import (
	"encoding/json"
	"io"
	"net/http"

	"deckle/node/access"
)

// whoami is the answer of /api/v1/whoami.
type whoami struct {
	Who    string      `json:"who"`
	Name   string      `json:"name"`
	Role   access.Role `json:"role"`
	Brands []string    `json:"brands"` // null: all
	Login  bool        `json:"login"`  // whether one has to say who one is
}

func (h *handler) serveWhoami(w http.ResponseWriter, r *http.Request) {
	p := &callOf(r).principal
	h.reply(w, http.StatusOK, whoami{p.Who, p.Name, p.Role, p.Brands, h.access.Required()})
}

// serveLogin serves POST /api/v1/login: {"token": "…"}. It sets the token as the cookie with which the page reads.
func (h *handler) serveLogin(w http.ResponseWriter, r *http.Request) {
	if !isJSON(r) {
		h.fail(w, r, "media-type", errMediaType.Error())
		return
	}
	var body struct {
		Token string `json:"token"`
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if err == nil {
		err = json.Unmarshal(text, &body)
	}
	if err != nil {
		h.fail(w, r, "bad-request", `the body must be {"token": "…"}`) // the error could show the token
		return
	}
	from := h.from(r)
	p, err := h.access.Login(r.Context(), body.Token, from)
	if err != nil {
		h.denyUnknown(w, r, err)
		return
	}
	callOf(r).principal = *p
	if h.audit != nil { // figures can be read whether or not it is written down, so this can be done, too
		if err := h.audit.Write(h.line(r, "login", "", http.StatusOK, "ok", ""), false); err != nil {
			h.log.Error("a login is not in the audit log", "request", callOf(r).id, "error", err)
		}
	}
	http.SetCookie(w, h.cookie(from, body.Token, 0))
	h.serveWhoami(w, r)
}

// serveLogout serves POST /api/v1/logout.
func (h *handler) serveLogout(w http.ResponseWriter, r *http.Request) {
	if !isJSON(r) { // which no page of another host can send without asking
		h.fail(w, r, "media-type", errMediaType.Error())
		return
	}
	http.SetCookie(w, h.cookie(h.from(r), "", -1))
	h.reply(w, http.StatusOK, struct{}{})
}

// cookie returns the page's cookie. It goes with the browser's session, or at once for a maxAge below 0.
func (h *handler) cookie(from access.From, value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: access.CookieName(from.Secure), Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true,
		Secure: from.Secure, SameSite: http.SameSiteStrictMode}
}
