package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// limit refuses what no browser should be made to send, and sets the headers that every answer has.
//
// A page of another site must not give commands to a server that its visitor can reach, so requests that browsers mark as
// cross-origin are refused unless they only read. Nor must it read by giving its own name the address 127.0.0.1: a server
// that is reached over loopback answers to addresses and to localhost alone.
func (s *Server) limit(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if n := headerBytes(r); n > maxHeaderBytes {
			problemf(kindHeaders, "", "its headers have %d bytes, the limit is %d", n, maxHeaderBytes).write(w, r)
			return
		}
		if err := origin.Check(r); err != nil {
			problemf(kindCrossOrigin, "", "%v", err).write(w, r)
			return
		}
		if overLoopback(r) && !isLocalName(r.Host) {
			problemf(kindHost, "use 127.0.0.1 or localhost; a proxy in front gives Host the address that it forwards to",
				"this server does not answer to %q", r.Host).write(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headerBytes returns about how large a request's head is.
func headerBytes(r *http.Request) int {
	n := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

func overLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

func isLocalName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// serveUnknown answers what no route takes: 405 where the path exists for another method, else 404.
func (s *Server) serveUnknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "" && pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	p := problemf(kindNotFound, "GET /openapi.json lists the routes", "there is no %s", r.URL.Path)
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p = problemf(kindMethod, "use "+strings.Join(allowed, " or "), "%s does not take %s", r.URL.Path, r.Method)
	}
	s.metrics.observeHTTP("none", "none", p.Status, false, 0)
	p.write(w, r)
}
