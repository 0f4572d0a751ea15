module coffeebuddy/test/cluster

go 1.26

require (
	coffeebuddy/test/devstack v0.0.0
	github.com/matryer/is v1.4.1
)

replace coffeebuddy/test/devstack => ../devstack
