package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// TakenError is of a port that another program has. Which flag, or what else, names another address is the program's to say.
type TakenError struct {
	Addr string
	// Protocol is what was to be spoken there: HTTP, gRPC or Kafka.
	Protocol string
	// Free is a like address whose port is free just now.
	Free string
}

// Error names an address that is free.
func (e *TakenError) Error() string {
	return fmt.Sprintf("listen on %s: the port is taken by another program; choose another address for %s, such as %s", e.Addr, e.Protocol, e.Free)
}

// Taken is the error of an address, of host and port, that another program has.
func Taken(ctx context.Context, addr, protocol string) *TakenError {
	return &TakenError{addr, protocol, freeAddr(ctx, addr)}
}

// Listen takes both ports. A taken port is a *TakenError.
func (s *Server) Listen(ctx context.Context) error {
	var err error
	if s.httpListener, err = listen(ctx, s.options.HTTPAddr, "HTTP"); err != nil {
		return err
	}
	if s.grpcListener, err = listen(ctx, s.options.GRPCAddr, "gRPC"); err != nil {
		return errors.Join(err, s.httpListener.Close())
	}
	return nil
}

// Free returns an error when a port cannot be taken, a *TakenError when another program has it.
func Free(ctx context.Context, addr, protocol string) error {
	l, err := listen(ctx, addr, protocol)
	if err != nil {
		return err
	}
	return l.Close()
}

func listen(ctx context.Context, addr, protocol string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, Taken(ctx, addr, protocol)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s for %s: %w", addr, protocol, err)
	}
	return l, nil
}

// freeAddr returns addr with a port that is free just now; port 0, which takes any, where there is none to be found.
func freeAddr(ctx context.Context, addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = "127.0.0.1"
	}
	anyPort := net.JoinHostPort(host, "0")
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", anyPort)
	if err != nil {
		return anyPort
	}
	free := l.Addr().String()
	if l.Close() != nil {
		return anyPort
	}
	return free
}

// Close frees the ports of a server that was never run, and ends its goroutines. After Run it does nothing. It is safe to
// call twice.
func (s *Server) Close() error {
	s.close()
	s.grpc.Stop()
	var errs []error
	for _, l := range []net.Listener{s.httpListener, s.grpcListener} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// HTTPAddr returns the address of the HTTP listener. REQUIRES: Listen has returned.
func (s *Server) HTTPAddr() string { return s.httpListener.Addr().String() }

// GRPCAddr returns the address of the gRPC listener. REQUIRES: Listen has returned.
func (s *Server) GRPCAddr() string { return s.grpcListener.Addr().String() }
