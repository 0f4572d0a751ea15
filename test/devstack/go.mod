module coffeebuddy/test/devstack

go 1.26
