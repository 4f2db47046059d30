package server

import "net/http"

// Handler is what answers HTTP requests, for tests that need no connection.
func (s *Server) Handler() http.Handler { return s.limit(s.mux) }

// WithoutSpaces is withoutSpaces.
func WithoutSpaces(text []byte) []byte { return withoutSpaces(text) }
