# study_balance.gp    gain of each method on each set; runs.draw gives out, labels (methods), series (sets) and balance.tsv (x,
# mean, interval)
set terminal svg noenhanced size 900,460 font 'Helvetica,13' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'study_balance.gp')-1].'style.gp'
set title 'One encoder under all tasks, scores of sentences kept apart, 95 % intervals'
set ylabel 'gain over single-task models, % of their scores'
set xrange [0.5:words(labels) + 0.5]
set xtics ()
do for [i=1:words(labels)] { set xtics add (word(labels, i) i) }
set key outside right
set arrow 1 from graph 0, first 0 to graph 1, first 0 nohead lc rgb '#000000' lw 1.2 back
plot for [i=0:series-1] 'balance.tsv' index i using 1:2:3 with yerrorbars lt i+1 ps 1
