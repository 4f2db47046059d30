package server

import (
	"encoding/json"
	"net/http"
)

// Dependency is something that the server needs.
type Dependency struct {
	// Name: store, kafka, redis, clickhouse.
	Name string `json:"name"`
	Up   bool   `json:"up"`
	// Required: without it the server is not ready. Commands go on without the others, so that they are not.
	Required bool `json:"required"`
	// Mode is "embedded" or the address of a server.
	Mode string `json:"mode"`
	// Problem says what is wrong and what to do; empty when up.
	Problem string `json:"problem,omitempty"`
}

type healthAnswer struct {
	Live         bool         `json:"live"`
	Ready        bool         `json:"ready"`
	Version      string       `json:"version"`
	Dependencies []Dependency `json:"dependencies"`
}

// serveHealth answers 200 when everything that is required is up, else 503; the body says how each dependency is.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	h := healthAnswer{Live: true, Ready: s.closing.Err() == nil, Version: s.options.Version, Dependencies: []Dependency{}}
	if s.options.Health != nil {
		h.Dependencies = append(h.Dependencies, s.options.Health(r.Context())...)
	}
	for _, d := range h.Dependencies {
		h.Ready = h.Ready && (d.Up || !d.Required)
	}
	writeHealth(w, h)
}

// serveLive answers 200 as long as the process answers at all.
func (s *Server) serveLive(w http.ResponseWriter, _ *http.Request) {
	writeHealth(w, healthAnswer{Live: true, Ready: true, Version: s.options.Version})
}

func writeHealth(w http.ResponseWriter, h healthAnswer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !h.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(h) // the client is gone: nobody to tell
}
