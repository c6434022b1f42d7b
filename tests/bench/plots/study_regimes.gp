# study_regimes.gp    scores over two weights, a panel for each task and their mean; runs.draw gives out, panels, xlabels and
# ylabels (words) and regimes_map.tsv (x, y, score, its text)
set terminal svg noenhanced size 900,820 font 'Helvetica,13' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'study_regimes.gp')-1].'style.gp'
set multiplot layout 2,2 title 'hwu64, one encoder under three tasks: scores by the weights of two of them (intent: 1)'
set palette defined (0 '#f7fbff', 0.5 '#9ecae1', 1 '#3182bd')
unset grid
unset key
unset colorbox
set xlabel 'weight of scenario'
set ylabel 'weight of slots'
set xrange [-0.5:words(xlabels) - 0.5]
set yrange [-0.5:words(ylabels) - 0.5]
set xtics ()
do for [i=1:words(xlabels)] { set xtics add (word(xlabels, i) i-1) }
set ytics ()
do for [i=1:words(ylabels)] { set ytics add (word(ylabels, i) i-1) }
do for [i=1:words(panels)] {
    set title word(panels, i)
    plot 'regimes_map.tsv' index i-1 using 1:2:3 with image pixels, '' index i-1 using 1:2:4 with labels textcolor rgb '#000000'
}
unset multiplot
