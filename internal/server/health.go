package server

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
)

// Dependency is something that the server needs.
type Dependency struct {
	// Name: store, kafka, redis, clickhouse; "projection NAME", "saga NAME" or "syncer NAME" of one that is stuck.
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
	Run          string       `json:"run,omitempty"`
	Folder       string       `json:"folder,omitempty"`
	Dependencies []Dependency `json:"dependencies"`
}

// healthTimeout bounds how long the dependencies may take to say how they are.
const healthTimeout = 5 * time.Second

func (s *Server) healthNow(ctx context.Context) healthAnswer {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	h := healthAnswer{Live: true, Ready: s.closing.Err() == nil, Version: s.options.Version, Dependencies: []Dependency{}}
	if s.options.Health != nil {
		h.Dependencies = append(h.Dependencies, s.options.Health(ctx)...)
	}
	for _, d := range h.Dependencies {
		h.Ready = h.Ready && (d.Up || !d.Required)
	}
	return h
}

// serveHealth answers 200 when everything that is required is up, else 503; the body says how each dependency is.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	h := s.healthNow(r.Context())
	status := http.StatusOK
	if !h.Ready {
		status = http.StatusServiceUnavailable
	}
	writeHealth(w, status, h)
}

// serveLive answers 200 as long as the process answers at all.
func (s *Server) serveLive(w http.ResponseWriter, _ *http.Request) {
	writeHealth(w, http.StatusOK, healthAnswer{
		Live: true, Ready: s.closing.Err() == nil, Version: s.options.Version, Run: s.options.Run, Folder: s.options.Folder, Dependencies: []Dependency{},
	})
}

func writeHealth(w http.ResponseWriter, status int, h healthAnswer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(h) // the client is gone: nobody to tell
}

// keepHealth has the gRPC health service say what /v1/health says, until ctx ends.
func (s *Server) keepHealth(ctx context.Context) {
	tick := time.NewTicker(s.options.HealthEvery)
	defer tick.Stop()
	for {
		status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
		if s.healthNow(ctx).Ready {
			status = grpc_health_v1.HealthCheckResponse_SERVING
		}
		for _, service := range append([]string{""}, s.services...) {
			s.health.SetServingStatus(service, status)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
