// Package embedded runs a Redis in this process: miniredis, with real connections over loopback. It is the default of
// a laptop and of the first minute. It keeps nothing when the process ends; the read models are filled again from the log
// at the next start.
package embedded

import (
	"fmt"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

// Server is a Redis in this process. It is safe for concurrent use.
type Server struct {
	mini  *miniredis.Miniredis
	close sync.Once
}

// Start serves on an address of host:port; port 0 takes a free one.
func Start(address string) (*Server, error) {
	s := &Server{mini: miniredis.NewMiniRedis()}
	if err := s.mini.StartAddr(address); err != nil {
		return nil, fmt.Errorf("start embedded redis on %s: %w", address, err)
	}
	return s, nil
}

// Address returns the host:port that it serves on.
func (s *Server) Address() string { return s.mini.Addr() }

// Close ends the server and its connections. It is safe to call twice.
func (s *Server) Close() error {
	s.close.Do(s.mini.Close)
	return nil
}
